package provisioning

// HubConfirmed is what the planner asks before it retires a certificate.
var HubConfirmed = hubConfirmed

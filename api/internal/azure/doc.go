// Package azure is Azure's words on the wire: the JSON of the provisioning service that
// more than one door speaks, and its translation from and to provisioning's types
// (protocols/dps.md §1, §2.2, §4).
//
// Answers leave out what is absent, requests may hold fields nobody knows. It is called by
// the doors of Azure's shape: dps, mqtt, service, webhook; admin has its own JSON and shares
// what a draft is.
package azure

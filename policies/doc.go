// Package policies decides, from values alone, what should happen; no I/O, no clock.
//
// Every decision is a pure function: the same values always give the same answer,
// and the moment it is asked for is one of the values. What it promises:
//
//   - A certificate request passes [CheckCSR] only if it is signed by its own sound
//     key and asks for nothing beyond the device's own name and profile (INV-P1 to P5).
//   - A validity computed by [Profile.Validity] lies within its issuer's (INV-P7).
//   - A key on the [BlockList] is refused, in whichever of its forms it is listed (INV-P5).
//   - [Allocate] sends a device to the same hub on every replica and after every
//     restart, as long as the hubs and their weights are the same.
//   - What no scope grants is refused ([Scopes.Allows], INV-L5).
//
// A refusal is a *fault.Error with a stable rule word. Of Muster the package imports
// only that vocabulary. It is called by ca (profiles, requests), rotation (when to
// prepare), provisioning (allocation, reprovisioning) and the operator doors (scopes).
package policies

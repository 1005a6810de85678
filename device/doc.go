// Package device is the client side of Muster: it registers a device, keeps its
// key and certificate in a folder, and renews them for as long as it runs.
//
// It is the reference for authors of devices and speaks only the public wire: the
// device API of Azure's provisioning service over HTTPS, with a certificate asked
// for in the same call, and EST (RFC 7030). It imports nothing of Muster.
//
// What it promises:
//   - the private key never leaves the folder, and every certificate has a new key;
//   - a key and its certificate change together: after a crash or a power cut the
//     folder holds the old pair or the new one, never a mixture and never none;
//   - credentials go only to the server that proved itself against Config.CA: plain
//     http is refused and no redirect is followed;
//   - answers are bounded in size, and waiting is bounded by the caller's context.
//
// Client is one device's connection, Folder its disk, Agent the loop over both.
// Called by the command `muster device`, by mustersim and by end-to-end tests.
package device

// Package ceremony is a root's life on a machine without network: it makes the root,
// signs issuing CAs, and revokes them, from files into files.
//
// What it promises:
//
//   - No file is replaced: a [Session] refuses an output that is there before it opens
//     a key. The key's file has mode 0600, the others 0644.
//   - What is signed comes of [ca.Offline], with the templates and the linter of the
//     online authority. A CRL carries every entry of the one before, and its number grows.
//   - Each session leaves a transcript: one JSON record a line, each with the hash of the
//     line before, the last a signature of the root's key over all of them. [Verify]
//     checks it later and anywhere. It holds no passphrase, nor a hash of one.
//
// Nothing here opens a socket. It is called by cmd alone.
package ceremony

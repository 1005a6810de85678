// Package ca issues, revokes and publishes status for certificates; no certificate
// leaves before it is durably on record.
//
// What it promises:
//
//   - The bytes of a certificate come out of [Record] alone, which puts the row and the
//     ledger entry into the caller's transaction (INV-S1, S2): whatever is not committed
//     was never issued.
//   - A certificate is for a [verify.Identity] and is made of that identity and a
//     profile. Of a request it takes the public key, the spelling of the name, and
//     what else the profile permits (INV-P2, P4). The first certificate of every shape is linted before a real key
//     signs it (INV-P6), and none outlives its issuer (INV-P7).
//   - A serial number is unique for its issuer: the store has the last word (INV-P8).
//   - Revocation is one-way, CRL numbers only grow, and a CRL lists every revoked
//     certificate of its shard until one CRL after its expiry (INV-S6, S7).
//   - An OCSP answer says what the inventory says when it is given, and good only of what
//     is there (INV-S7).
//   - Private keys stay behind [Keys]; a row holds their URI (INV-K1).
//
// [Authority] is safe for concurrent use and signs outside any transaction. It is
// called by provisioning (issue, record, revoke), by jobs (the CRL sweep), by the
// doors that publish chains and CRLs, and by cmd (making issuers).
package ca

// Package crash holds the tests that end the real server in the worst moments: kill -9
// while devices enroll, and a full disk.
//
// What must survive: no certificate that a device was given is missing from the
// inventory, none is there twice, none is recorded for a device after its disable was
// acknowledged (INV-S1, S3, D1), and every invariant of the store holds in the end. A
// disk that is full stops issuing and nothing else (INV-S5).
//
// Only its tests have code. MUSTER_SOAK=1 makes them ten times as long.
package crash

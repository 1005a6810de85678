// Package years_test lets a fleet live for three years, in simulated time on a real SQLite
// file: renewals, devices that sleep, a group whose intermediate rolls twice, an issuing CA
// that rolls, and crashes in between. What must hold is looked at after every day.
package years_test

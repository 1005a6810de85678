// Package sim_test runs a fleet of mustersim against the real server: certificates of
// minutes, renewals over both protocols, a campaign, and a server that is killed.
package sim_test

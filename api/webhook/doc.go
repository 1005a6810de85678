// Package webhook calls addresses that operators name: an entry's webhook, which says what
// hub a device shall have (custom allocation, protocols/dps.md §4.7), and subscribers, who
// are told of what is written into the ledger.
//
// Operators choose the addresses, and the server is the one who calls: so a call never
// leaves for an address that operators were not meant to reach through it. Redirects are
// not followed, proxies of the environment not used, answers are bounded, and nothing of
// what is wrong with a call is told but that it failed.
//
// The engine calls it outside any transaction: for the doors that register devices, and from
// the sweep of subscriptions.
package webhook

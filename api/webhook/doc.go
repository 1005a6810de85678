// Package webhook asks and tells those that operators name: an entry's webhook, which says what
// hub a device shall have (custom allocation, protocols/dps.md §4.7), and subscribers, who
// are told of what is written into the ledger. Whom it may call is package callout's to say.
//
// Answers are bounded, and nothing of what is wrong with a call is told but that it failed.
//
// The engine calls it outside any transaction: for the doors that register devices, and from
// the sweep of subscriptions.
package webhook

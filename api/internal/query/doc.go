// Package query answers the queries of the Azure-shaped doors (protocols/dps.md §4.5, §8):
// SELECT * with a WHERE, in pages.
//
//   - Pages go by key, never by offset, and survive restarts and inserts.
//   - A continuation is good for its query, list and id scope alone, and is there only when
//     there may be more: clients go by its presence.
//   - One answer looks at a bounded number of rows, whatever the WHERE passes over.
//
// It is called by the doors service and hub.
package query

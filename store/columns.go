package store

import "strings"

// column is a column of a table and how it is stored: integer, text or blob.
type column struct {
	name string
	kind byte // 'i', 't' or 'b'
}

// columns is what is read and written of a table, in the order its scan function asks.
type columns []column

// cols reads "i version, t name, b certificate".
func cols(spec string) columns {
	var c columns
	for word := range strings.SplitSeq(spec, ",") {
		word = strings.TrimSpace(word)
		c = append(c, column{name: word[2:], kind: word[0]})
	}
	return c
}

// list is the column names, each behind prefix ("c.").
func (c columns) list(prefix string) string {
	var b strings.Builder
	for i, col := range c {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(prefix)
		b.WriteString(col.name)
	}
	return b.String()
}

// excluded sets all columns but the key to what an insert brought that met a row of its key.
func (c columns) excluded(key string) string {
	var terms []string
	for _, col := range c {
		if col.name != key {
			terms = append(terms, col.name+" = excluded."+col.name)
		}
	}
	return strings.Join(terms, ", ")
}

package api

import "github.com/passmuster/muster/api/internal/wire"

// CheckIDScope refuses a name that no id scope may have, because the doors' addresses have
// it: Malformed, rule "id-scope".
func CheckIDScope(name string) error { return wire.CheckIDScope(name) }

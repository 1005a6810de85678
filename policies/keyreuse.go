package policies

// KeyReuse says whether a key that has had a certificate may have another.
type KeyReuse string

// With KeyReuseOwnOnly a key belongs to the first registration that used it; with
// KeyReuseNever each certificate needs a new key, renewals included. Both count the keys
// of profiles that have a rule, from when they have it.
const (
	KeyReuseAllowed KeyReuse = "" // the default
	KeyReuseOwnOnly KeyReuse = "ownOnly"
	KeyReuseNever   KeyReuse = "never"
)

func (k KeyReuse) known() bool {
	return k == KeyReuseAllowed || k == KeyReuseOwnOnly || k == KeyReuseNever
}

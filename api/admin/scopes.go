package admin

import (
	"net/http"
	"strings"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/provisioning"
)

// ByIDScope serves several id scopes at one address, each by its own handler: the one that
// the bearer token names. Whatever names none, or none of these, goes to the first's, which
// refuses it as it refuses every token that is not its own.
func ByIDScope(first string, handlers map[string]http.Handler) http.Handler {
	if len(handlers) == 1 {
		return handlers[first]
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := wire.Bearer(r.Header.Get("Authorization"))
		named := provisioning.TokenIDScope(token)
		for idScope, h := range handlers {
			if strings.EqualFold(idScope, named) {
				h.ServeHTTP(w, r)
				return
			}
		}
		handlers[first].ServeHTTP(w, r)
	})
}

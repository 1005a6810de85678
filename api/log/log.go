// Package log publishes what anybody may read of the logs of ledgers, over plain HTTP
// with GET and HEAD: under /log/{idScope}/ checkpoint, key, tile/… as C2SP tlog-tiles has
// them, so that its tools can follow a log; and proofs of inclusion and of consistency.
// Logs of certificates stand beside them under /ct/{idScope}/.
//
// It serves signatures and hashes (INV-N4). The leaves name devices and operators: they are
// given to operators alone, by the admin door.
//
// Called by package api, which mounts it on the listener for plain HTTP.
package log

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/transparency-dev/tessera/api/layout"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/internal/fault"
)

type handler struct{ tenants wire.Tenants }

// New makes the door.
func New(tenants wire.Tenants, s wire.Settings) http.Handler {
	h := handler{tenants}
	d := wire.NewDoor("log", s, fail)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		d.Handle(method, "/log/:scope/checkpoint", h.with(func(c *gin.Context, l wire.Log) error { return note(c, l.Note) }))
		d.Handle(method, "/log/:scope/key", h.with(key))
		d.Handle(method, "/log/:scope/tile/*name", h.with(func(c *gin.Context, l wire.Log) error { return tile(c, l) }))
		d.Handle(method, "/log/:scope/proof/inclusion", h.with(inclusion))
		d.Handle(method, "/log/:scope/proof/consistency", h.with(consistency))
	}
	return d
}

// with finds the log of the id scope that the path names.
func (h handler) with(serve func(*gin.Context, wire.Log) error) wire.Handler {
	return func(c *gin.Context) error {
		t, err := h.tenants.Find(c.Param("scope"))
		if err != nil {
			return err
		}
		if t.Log == nil {
			return fault.New(fault.Unavailable, "log-not-here", "The log is not on this host, or cannot be read.")
		}
		return serve(c, t.Log)
	}
}

// note serves a checkpoint, which is never to be had from a cache.
func note(c *gin.Context, read func() ([]byte, error)) error {
	text, err := read()
	if err != nil {
		return err
	}
	c.Header("Cache-Control", "no-cache")
	c.Data(http.StatusOK, "text/plain; charset=utf-8", text)
	return nil
}

func unchanging(c *gin.Context, mediaType string, data []byte) error {
	c.Header("Cache-Control", "public, max-age=31536000, immutable")
	c.Data(http.StatusOK, mediaType, data)
	return nil
}

func key(c *gin.Context, l wire.Log) error {
	c.String(http.StatusOK, "%s\n", l.Key())
	return nil
}

// tile serves tile/L/N and tile/L/N.p/W, which never change.
func tile(c *gin.Context, l interface {
	Tile(ctx context.Context, level, index uint64, partial uint8) ([]byte, error)
},
) error {
	level, name, _ := strings.Cut(strings.TrimPrefix(c.Param("name"), "/"), "/")
	at, index, partial, err := layout.ParseTileLevelIndexPartial(level, name)
	if err != nil || layout.TilePath(at, index, partial) != "tile/"+level+"/"+name {
		return fault.New(fault.NotFound, wire.RuleNoRoute, "There is no such file.").Because(err)
	}
	data, err := l.Tile(c.Request.Context(), at, index, partial)
	if err != nil {
		return err
	}
	return unchanging(c, "application/octet-stream", data)
}

// proved is an audit path; hashes are in base64.
type proved struct {
	Hashes [][]byte `json:"hashes"`
}

func inclusion(c *gin.Context, l wire.Log) error {
	return prove(c, "index", "size", l.Inclusion)
}

func consistency(c *gin.Context, l wire.Log) error {
	return prove(c, "from", "to", l.Consistency)
}

func prove(c *gin.Context, first, second string, f func(context.Context, uint64, uint64) ([][]byte, error)) error {
	var n [2]uint64
	for i, name := range []string{first, second} {
		var err error
		if n[i], err = strconv.ParseUint(c.Query(name), 10, 63); err != nil {
			return fault.New(fault.Malformed, "log-size", "Say %s and %s, each a number.", first, second)
		}
	}
	hashes, err := f(c.Request.Context(), n[0], n[1])
	if err != nil {
		return err
	}
	if hashes == nil {
		hashes = [][]byte{}
	}
	c.Header("Cache-Control", "public, max-age=31536000, immutable")
	c.JSON(http.StatusOK, proved{hashes})
	return nil
}

// fail answers an error as one sentence of text.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	status, text := http.StatusInternalServerError, "Something went wrong here."
	switch {
	case fault.RuleOf(err) == wire.RuleMethodNotAllowed:
		status, text = http.StatusMethodNotAllowed, "This address does not have that method."
	case fault.Is(err, fault.TooLarge):
		status, text = http.StatusRequestEntityTooLarge, sentence(err)
	case fault.Is(err, fault.Malformed):
		status, text = http.StatusBadRequest, sentence(err)
	case fault.Is(err, fault.NotFound):
		status, text = http.StatusNotFound, sentence(err)
	case fault.Is(err, fault.Unavailable):
		status, text = http.StatusServiceUnavailable, "The log is not on this host, or cannot be read; try again later."
		w.Header().Set("Retry-After", wire.RetryAfter(err))
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Request-Id", wire.TraceID(r))
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

func sentence(err error) string {
	if f := fault.As(err); f != nil {
		return f.Detail
	}
	return "There is no such file."
}

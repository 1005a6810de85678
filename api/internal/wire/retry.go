package wire

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// someTime is the advice where a fault has none.
const someTime = 5 * time.Second

// RetryAfter is the advice of an answer that asks to come back, in whole seconds as HTTP
// and MQTT write it: as long as the fault says, or 5 s, and up to twice that, drawn so that
// a fleet does not come back as one (INV-R4).
func RetryAfter(err error) string {
	wait := advised(err)
	if wait == 0 {
		wait = someTime
	}
	seconds := int((wait + time.Second - 1) / time.Second)
	return strconv.Itoa(seconds + rand.IntN(seconds+1))
}

func advised(err error) time.Duration {
	if f := fault.As(err); f != nil {
		return f.RetryAfter
	}
	return 0
}

// Advise sets the header Retry-After where a status asks to come back, and of any other
// error where its fault gives advice (INV-R5): a client may heed it with a 401 too.
func Advise(header http.Header, status int, err error) {
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable || advised(err) > 0 {
		header.Set("Retry-After", RetryAfter(err))
	}
}

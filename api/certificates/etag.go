package certificates

import (
	"encoding/base64"
	"encoding/binary"
	"net/http"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// etag is a version as this API writes it: bare base64, without quotes (§5).
func etag(version int64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(version)))
}

// never is a version that no anchor has: an ETag that is not ours matches nothing.
const never = -1

// precondition reads If-Match: an ETag, bare as it was answered, or in quotes, or * (§10,
// trap 5).
func precondition(r *http.Request) provisioning.Precondition {
	header := r.Header.Get("If-Match")
	tag := azure.BareETag(header)
	switch {
	case header == "":
		return provisioning.Precondition{}
	case tag == "*":
		return provisioning.Precondition{Any: true}
	}
	raw, err := base64.StdEncoding.DecodeString(tag)
	if err != nil || len(raw) != 8 {
		return provisioning.Precondition{Version: never}
	}
	if v := int64(binary.BigEndian.Uint64(raw)); v > 0 {
		return provisioning.Precondition{Version: v}
	}
	return provisioning.Precondition{Version: never}
}

// meets says whether a precondition names an anchor as it is.
func meets(pre provisioning.Precondition, a verify.TrustAnchor) error {
	switch {
	case pre == (provisioning.Precondition{}):
		return missing()
	case !pre.Any && pre.Version != a.Version():
		return fault.New(fault.PreconditionFailed, "etag-mismatch", "It was changed meanwhile: read it again.")
	}
	return nil
}

// required is a precondition that has to be there.
func required(r *http.Request) (provisioning.Precondition, error) {
	pre := precondition(r)
	if pre == (provisioning.Precondition{}) {
		return pre, missing()
	}
	return pre, nil
}

func missing() error {
	return fault.New(fault.PreconditionRequired, "if-match-required", "It exists: say which version you mean by If-Match.")
}

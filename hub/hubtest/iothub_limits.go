package hubtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// rights are what a policy lets its bearer do.
type rights struct{ read, write, service bool }

// admit checks a shared access signature (contract §1.2): sr is hashed as it stands.
func admit(header string, now time.Time) (rights, bool) {
	fields := map[string]string{}
	rest, ok := strings.CutPrefix(header, "SharedAccessSignature ")
	for field := range strings.SplitSeq(rest, "&") {
		name, value, _ := strings.Cut(field, "=")
		fields[name] = value
	}
	expiry, err := strconv.ParseInt(fields["se"], 10, 64)
	policy, known := policies[fields["skn"]]
	resource, _ := url.QueryUnescape(fields["sr"])
	said, _ := url.QueryUnescape(fields["sig"])
	key, _ := base64.StdEncoding.DecodeString(policy.key)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(fields["sr"] + "\n" + fields["se"]))
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	good := ok && known && err == nil && now.Unix() < expiry && strings.EqualFold(resource, hubHost) && hmac.Equal([]byte(said), []byte(want))
	return rights{policy.read, policy.write, policy.service}, good
}

// bucket lets so many calls through in a minute.
type bucket struct {
	perMinute, left float64
	at              time.Time
}

func newBucket(perMinute int, now time.Time) *bucket {
	return &bucket{float64(perMinute), float64(perMinute), now}
}

// take is how long to wait for a call; 0: it is let through.
func (b *bucket) take(now time.Time) time.Duration {
	if b == nil {
		return 0
	}
	b.left = min(b.perMinute, b.left+now.Sub(b.at).Minutes()*b.perMinute)
	b.at = now
	if b.left < 1 {
		return time.Duration((1 - b.left) / b.perMinute * float64(time.Minute))
	}
	b.left--
	return 0
}

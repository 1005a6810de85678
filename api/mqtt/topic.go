package mqtt

import (
	"strconv"
	"strings"
)

// The topics of §3. A device subscribes to answers and to nothing else.
const (
	answers       = "$dps/registrations/res/#"
	registerTopic = "$dps/registrations/PUT/iotdps-register/"
	statusTopic   = "$dps/registrations/GET/iotdps-get-operationstatus/"

	maxTopic = 512
	maxRID   = 128
)

// request is what a topic asks for.
type request struct {
	poll        bool   // else register
	rid         string // the caller's name for the answer; it may repeat
	operationID string // of a poll; "" when it is missing
}

// parseTopic reads the topic of a PUBLISH: one of two paths, then parameters in any order,
// unknown ones passed over. The $rid is required and of letters, digits and - . _ ~ : % alone:
// it becomes part of a topic.
func parseTopic(topic string) (r request, ok bool) {
	if len(topic) > maxTopic {
		return request{}, false
	}
	path, query, _ := strings.Cut(topic, "?")
	switch path {
	case registerTopic:
	case statusTopic:
		r.poll = true
	default:
		return request{}, false
	}
	for parameter := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		switch {
		case name == "$rid" && r.rid == "":
			r.rid = value
		case name == "$rid":
			return request{}, false
		case strings.EqualFold(name, "operationId"):
			r.operationID = value
		}
	}
	return r, isRID(r.rid)
}

func isRID(s string) bool {
	return s != "" && len(s) <= maxRID && strings.IndexFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~:%", c)
	}) < 0
}

// answerTopic is where a request is answered. The $rid comes first, because C#'s client
// reads nothing else there, and a slash before the question mark, for npm's (§3).
func (r request) answerTopic(status int, retryAfter string) string {
	topic := "$dps/registrations/res/" + strconv.Itoa(status) + "/?$rid=" + r.rid
	if retryAfter != "" {
		topic += "&retry-after=" + retryAfter
	}
	return topic
}

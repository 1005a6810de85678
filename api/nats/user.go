package nats

import (
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/passmuster/muster/api/internal/wire"
	"github.com/passmuster/muster/provisioning"
)

// mark begins the names of the users made here, and of no others in the account: only they
// are dropped.
const mark = "device:"

// replies is how long a device has to answer what it was asked, once.
const replies = time.Minute

// user is what a device is to the server, until it has to be asked about anew.
func (o *Callout) user(key string, v provisioning.HubVerdict) *jwt.UserClaims {
	u := jwt.NewUserClaims(key)
	u.Name, u.Audience = mark+v.DeviceID, o.Account
	u.Expires = wire.AskAgain(v.Until, o.Now(), o.AskAgain).Unix()
	u.AllowedConnectionTypes = jwt.StringList{jwt.ConnectionTypeStandard, jwt.ConnectionTypeWebsocket, jwt.ConnectionTypeMqtt, jwt.ConnectionTypeMqttWS}
	u.Pub, u.Sub = only(subjects(o.Publish, v.DeviceID)), only(subjects(o.Subscribe, v.DeviceID))
	u.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: replies}
	return u
}

// only allows what is listed. To the server an empty list would be everything.
func only(list []string) jwt.Permission {
	if len(list) == 0 {
		return jwt.Permission{Deny: jwt.StringList{">"}}
	}
	return jwt.Permission{Allow: list}
}

// subjects are the patterns for one device. Its name is one token of a subject: a full stop in it is
// written as NATS writes one in an MQTT topic, so that press.1 has nothing of press's.
func subjects(patterns []string, device string) (list []string) {
	token := strings.ReplaceAll(device, ".", "//")
	for _, p := range patterns {
		list = append(list, strings.ReplaceAll(p, "{device}", token))
	}
	return list
}

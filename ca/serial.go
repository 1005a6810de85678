package ca

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"strings"
	"time"

	"github.com/passmuster/muster/internal/fault"
)

// maxSerial is the longest serial number of RFC 5280 §4.1.2.2, in octets.
const maxSerial = 20

// newSerial is the minute since 1970 in 31 bits, which keeps the index writes of a
// day together (store-design §1), and then 128 random bits (INV-P8). The top bit is
// clear, so the number is positive in 20 octets.
func newSerial(now time.Time) *big.Int {
	var b [maxSerial]byte
	binary.BigEndian.PutUint32(b[:4], uint32(now.Unix()/60)&(1<<31-1))
	rand.Read(b[4:])
	return new(big.Int).SetBytes(b[:])
}

// SerialOf is the Serial of a certificate's serial number, which is positive.
func SerialOf(n *big.Int) Serial { return Serial(hex.EncodeToString(n.Bytes())) }

// ParseSerial reads a serial number as people and tools write it: hex digits of either
// case, with colons and leading zeros or without. Malformed, rule "serial".
func ParseSerial(s string) (Serial, error) {
	digits := strings.ReplaceAll(s, ":", "")
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	b, err := hex.DecodeString(digits)
	n := new(big.Int).SetBytes(b)
	if err != nil || len(s) > 3*(maxSerial+1) || n.Sign() == 0 || n.BitLen() > 8*maxSerial {
		return "", fault.New(fault.Malformed, "serial", "A serial number is 1 to 40 hex digits and not zero.")
	}
	return SerialOf(n), nil
}

func (s Serial) number() (*big.Int, error) {
	b, err := hex.DecodeString(string(s))
	return new(big.Int).SetBytes(b), err
}

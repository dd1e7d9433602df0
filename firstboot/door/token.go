// Package door is the claim of a new Pod: a one-time link that the machine shows
// to its owner, and the cookie that the link is exchanged for. NGINX asks the
// door about every request that the claim guards (auth_request); see package
// site.
//
// A token is signed with a key that only this machine has, so the door needs no
// list of what it gave out, only of what was used. A new key voids everything.
package door

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// KeySize is the length of the door's key in bytes.
const KeySize = 32

// NewKey makes a key from the kernel's random numbers.
func NewKey() []byte {
	key := make([]byte, KeySize)
	rand.Read(key) // never fails: crypto/rand ends the program instead
	return key
}

// A kind keeps a link from passing as a cookie.
type kind string

const (
	link   kind = "link"
	cookie kind = "cookie"
)

const (
	nonceSize = 16
	tokenSize = 8 + nonceSize + sha256.Size
)

// token is: expiry, seconds since 1970, big-endian; nonce; HMAC-SHA256 of kind,
// expiry and nonce (RFC 2104). In text it is base64url without padding.
func token(key []byte, k kind, nonce [nonceSize]byte, expires time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(expires.Unix()))
	b = append(b, nonce[:]...)
	b = append(b, sign(key, k, b)...)
	return base64.RawURLEncoding.EncodeToString(b)
}

func sign(key []byte, k kind, message []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(k))
	m.Write([]byte{0})
	m.Write(message)
	return m.Sum(nil)
}

var (
	errForged  = errors.New("it is not from this machine")
	errExpired = errors.New("it has expired")
)

// open checks a token and returns its nonce.
func open(key []byte, k kind, text string, now time.Time) (nonce [nonceSize]byte, err error) {
	// More than the right length is not even decoded.
	if len(text) != base64.RawURLEncoding.EncodedLen(tokenSize) {
		return nonce, errForged
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nonce, errForged
	}
	message, mac := b[:8+nonceSize], b[8+nonceSize:]
	if !hmac.Equal(mac, sign(key, k, message)) {
		return nonce, errForged
	}
	copy(nonce[:], message[8:])
	if expires := int64(binary.BigEndian.Uint64(message)); now.Unix() >= expires {
		return nonce, errExpired
	}
	return nonce, nil
}

func newNonce() (n [nonceSize]byte) {
	rand.Read(n[:])
	return n
}

// LinkLife and CookieLife are how long a link can be used, and how long what it
// was exchanged for opens the door.
const (
	LinkLife   = 24 * time.Hour
	CookieLife = 2 * time.Hour
)

// Path is the path of a new one-time link.
func Path(key []byte, now time.Time) string {
	return claimPath + token(key, link, newNonce(), now.Add(LinkLife))
}

// Usable reports why a path that [Path] gave cannot be used any more: it has
// expired or was used, or the key is another one. used is the directory of the
// marks.
func Usable(key []byte, used, path string, now time.Time) error {
	d := Door{Key: key, Used: used, Now: func() time.Time { return now }}
	text, ok := strings.CutPrefix(path, claimPath)
	if !ok {
		return errForged
	}
	_, err := d.usable(text)
	return err
}

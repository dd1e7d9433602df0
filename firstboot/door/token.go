// Package door is the claim of a new Pod: a one-time link that the machine shows
// to its owner, and the cookie that the link is exchanged for. NGINX asks the
// door about every request that the claim guards (auth_request); see package
// site.
//
// A token is signed with a key that only this machine has, so the door needs no
// list of what it gave out, only of what was used. The epoch is signed with it: a
// factory reset begins a new one, which voids everything of before.
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

// A signer makes and checks the tokens of one epoch.
type signer struct {
	key   []byte
	epoch string
}

// token is: expiry, seconds since 1970, big-endian; nonce; HMAC-SHA256 of kind,
// expiry, nonce and epoch (RFC 2104). In text it is base64url without padding.
func (s signer) token(k kind, nonce [nonceSize]byte, expires time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(expires.Unix()))
	b = append(b, nonce[:]...)
	b = append(b, s.sign(k, b)...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// sign puts the epoch last: everything before it has a length that is known.
func (s signer) sign(k kind, message []byte) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte(k))
	m.Write([]byte{0})
	m.Write(message)
	m.Write([]byte(s.epoch))
	return m.Sum(nil)
}

var (
	errForged  = errors.New("it is not from this machine")
	errExpired = errors.New("it has expired")
)

// open checks a token and returns its nonce.
func (s signer) open(k kind, text string, now time.Time) (nonce [nonceSize]byte, err error) {
	// More than the right length is not even decoded.
	if len(text) != base64.RawURLEncoding.EncodedLen(tokenSize) {
		return nonce, errForged
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nonce, errForged
	}
	message, mac := b[:8+nonceSize], b[8+nonceSize:]
	if !hmac.Equal(mac, s.sign(k, message)) {
		return nonce, errForged
	}
	copy(nonce[:], message[8:])
	// One that lives longer than any was made by a clock that was ahead.
	left := time.Unix(int64(binary.BigEndian.Uint64(message)), 0).Sub(now)
	if left <= 0 || left > lives[k]+time.Minute {
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

var lives = map[kind]time.Duration{link: LinkLife, cookie: CookieLife}

// Path is the path of a new one-time link. state is the door's directory.
func Path(key []byte, state string, now time.Time) (string, error) {
	epoch, err := readEpoch(state)
	if err != nil {
		return "", err
	}
	return claimPath + signer{key, epoch}.token(link, newNonce(), now.Add(LinkLife)), nil
}

// Usable reports why a path that [Path] gave cannot be used any more: it has
// expired or was used, or key or epoch are others. state is the door's directory.
func Usable(key []byte, state, path string, now time.Time) error {
	epoch, err := readEpoch(state)
	if err != nil {
		return err
	}
	text, ok := strings.CutPrefix(path, claimPath)
	if !ok {
		return errForged
	}
	d := Door{Key: key, State: state, Now: func() time.Time { return now }}
	_, err = d.usable(epoch, text)
	return err
}

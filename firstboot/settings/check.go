package settings

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/prose-im/prose-image/cloudinit"
)

// A fault is what is wrong with one value and what to write instead. Neither
// may hold a secret: checks of secret keys do not quote.
type fault struct{ message, hint string }

func wrong(hint, message string, args ...any) *fault {
	return &fault{fmt.Sprintf(message, args...), hint}
}

// set checks text and puts it into s, or says what is wrong and leaves s alone.
func (k *Key) set(s *Settings, text string) *fault {
	if strings.TrimSpace(text) == "" {
		return wrong("write a value, or leave the key out", "is empty")
	}
	if !utf8.ValidString(text) {
		return wrong("save the file as UTF-8", "is not UTF-8")
	}
	if i := strings.IndexFunc(text, func(r rune) bool {
		return unicode.IsControl(r) && (k.Kind != PEM || !strings.ContainsRune("\n\r\t", r))
	}); i >= 0 {
		return wrong("write one line", "has a line break or control character in it")
	}
	if k.tidy != nil {
		text = k.tidy(text)
	}
	if k.Kind == List {
		items := splitList(text)
		for _, item := range items {
			if f := k.check(item); f != nil {
				return f
			}
		}
		*k.field(s).(*[]string) = items
		return nil
	}
	if k.check != nil {
		if f := k.check(text); f != nil {
			return f
		}
	}
	switch field := k.field(s).(type) {
	case *string:
		*field = text
	case *Secret:
		*field = NewSecret(text)
	case *bool:
		if text != "true" && text != "false" {
			return wrong("write true or false, without quotes", "is neither true nor false")
		}
		*field = text == "true"
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return wrong("write digits, without quotes", "is no number")
		}
		*field = n
	}
	return nil
}

// reset gives the key its default.
func (k *Key) reset(s *Settings) {
	def := Defaults()
	switch field := k.field(s).(type) {
	case *string:
		*field = *k.field(&def).(*string)
	case *Secret:
		*field = *k.field(&def).(*Secret)
	case *bool:
		*field = *k.field(&def).(*bool)
	case *int:
		*field = *k.field(&def).(*int)
	case *[]string:
		*field = *k.field(&def).(*[]string)
	}
}

// get is the value as text, for comparing and for showing what is not secret.
func (k *Key) get(s *Settings) string {
	switch field := k.field(s).(type) {
	case *string:
		return *field
	case *Secret:
		return field.Reveal()
	case *bool:
		return strconv.FormatBool(*field)
	case *int:
		return strconv.Itoa(*field)
	case *[]string:
		return strings.Join(*field, ", ")
	}
	return ""
}

// splitList is a list that was written as one text, as a flag has it.
func splitList(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// aLabels is a domain that people write with their own letters as DNS has it
// (RFC 5891). What cannot be one stays as it is, and is refused then.
func aLabels(v string) string {
	if strings.IndexFunc(v, func(r rune) bool { return r > unicode.MaxASCII }) < 0 {
		return v
	}
	ascii, err := idna.Lookup.ToASCII(v)
	if err != nil {
		return v
	}
	return ascii
}

func checkDomain(v string) *fault {
	err := cloudinit.CheckDomain(v)
	var de *cloudinit.DomainError
	if errors.As(err, &de) {
		return wrong(de.Fix, "%s %s", quoted(v), de.What)
	}
	return nil
}

// atMost is upstream's limit of a text, in characters.
func atMost(n int) func(string) *fault {
	return func(v string) *fault {
		if got := utf8.RuneCountInString(v); got > n {
			return wrong("", "has %d characters, and %d are the most", got, n)
		}
		return nil
	}
}

func checkHost(v string) *fault {
	if _, err := netip.ParseAddr(v); err == nil {
		return nil
	}
	switch {
	case len(v) > 253:
		return wrong("", "is longer than a host name can be")
	case strings.ContainsAny(v, ":/@ "):
		return wrong("write the name alone, for example smtp.example.org; the port has its own key", "%s is no host name", quoted(v))
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(v, "."), ".") {
		if label == "" || len(label) > 63 || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" ||
			label[0] == '-' || label[len(label)-1] == '-' {
			return wrong("write a name such as smtp.example.org", "%s is no host name", quoted(v))
		}
	}
	return nil
}

func checkSMTPPort(v string) *fault {
	n, err := strconv.Atoi(v)
	switch {
	case err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != v:
		return wrong("write a number from 1 to 65535; 587 is the usual one", "%s is no port", quoted(v))
	case n == 465:
		// The API speaks STARTTLS only, and exits when it cannot reach the server.
		return wrong("use the server's STARTTLS port, usually 587", "465 is for TLS from the first byte, which the Pod does not speak")
	}
	return nil
}

func checkUsername(v string) *fault {
	switch {
	case strings.Contains(v, "@"):
		return wrong("write only what comes before the @", "%s is a whole address", quoted(v))
	case len(v) > 64:
		return wrong("", "has %d characters, and 64 are the most", len(v))
	case strings.ToLower(v) != v:
		return wrong("write "+strings.ToLower(v), "%s has capital letters", quoted(v))
	case strings.Trim(v, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "":
		return wrong("use letters a to z, digits and . _ -", "%s has other characters in it", quoted(v))
	case v == "prose-workspace":
		return wrong("take another name", "%s is the Pod's own account", quoted(v))
	}
	return nil
}

// shortestPassword is upstream's auth.min_password_length, in characters.
const shortestPassword = 15

func checkPassword(v string) *fault {
	if n := utf8.RuneCountInString(v); n < shortestPassword || n > 1024 {
		return wrong("take a few words with spaces between", "must have %d to 1024 characters", shortestPassword)
	}
	return nil
}

func checkDirectory(v string) *fault {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || strings.Contains(v, " ") {
		return wrong("write an https address, for example "+letsEncrypt, "is no address of an ACME directory")
	}
	return nil
}

func checkCertificates(v string) *fault {
	rest, n := []byte(v), 0
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return wrong("paste only blocks that begin with -----BEGIN CERTIFICATE-----", "has a block that is no certificate")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return wrong("paste the file again", "has a certificate that cannot be read, number %d", n+1)
		}
		n++
	}
	switch {
	case n == 0:
		return wrong("paste text that begins with -----BEGIN CERTIFICATE-----", "holds no certificate")
	case strings.TrimSpace(string(rest)) != "":
		return wrong("paste the file again", "has something after certificate number %d that is none", n)
	}
	return nil
}

// checkPrivateKey does not quote: the key is a secret.
func checkPrivateKey(v string) *fault {
	block, rest := pem.Decode([]byte(v))
	if block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return wrong("paste text that begins with -----BEGIN PRIVATE KEY-----", "holds no private key")
	}
	if strings.TrimSpace(string(rest)) != "" {
		return wrong("paste the key alone; certificates have their own setting", "has something after the key")
	}
	if strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
		return wrong("take the password off: openssl pkey -in FILE", "is protected by a password")
	}
	return nil
}

// checkPair looks whether the owner's chain and key belong together.
func checkPair(s *Settings) *fault {
	if _, err := tls.X509KeyPair([]byte(s.Apex.Chain), []byte(s.Apex.Key.Reveal())); err != nil {
		return wrong("the first certificate must be the key's, and the domain's", "does not go with apex.key")
	}
	return nil
}

func oneOf(words ...string) func(string) *fault {
	return func(v string) *fault {
		if !slices.Contains(words, v) {
			return wrong("write "+strings.Join(words[:len(words)-1], ", ")+" or "+words[len(words)-1], "%s is none of its values", quoted(v))
		}
		return nil
	}
}

func checkAddress(v string) *fault {
	if a, err := netip.ParseAddr(v); err != nil || a.Zone() != "" || a.IsUnspecified() {
		return wrong("write an address such as 192.0.2.53 or 2001:db8::53", "%s is no IP address", quoted(v))
	}
	return nil
}

func checkNetwork(v string) *fault {
	if p, err := netip.ParsePrefix(v); err == nil {
		if p != p.Masked() {
			return wrong("write "+p.Masked().String()+", or "+p.Addr().String()+" for one address", "%s has bits beyond its length", quoted(v))
		}
		return nil
	}
	if checkAddress(v) != nil {
		return wrong("write a network such as 192.0.2.0/24, or an address", "%s is no network", quoted(v))
	}
	return nil
}

// checkWebhook does not quote: the address often has a token in it.
func checkWebhook(v string) *fault {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Contains(v, " ") {
		return wrong("write an address that begins with https://", "is no https address")
	}
	return nil
}

func checkMail(v string) *fault {
	local, host, ok := strings.Cut(v, "@")
	if !ok || local == "" || len(v) > 254 || strings.ContainsAny(v, " <>,;:\"()[]\\?") || checkHost(host) != nil || !strings.Contains(host, ".") {
		return wrong("write it like you@example.org", "%s is no mail address", quoted(v))
	}
	return nil
}

func checkWord(v string) *fault {
	if len(v) > 64 || strings.Trim(strings.ToLower(v), "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
		return wrong("use letters, digits and . _ -", "%s has other characters in it", quoted(v))
	}
	return nil
}

func checkBase64(v string) *fault {
	if b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(v, "=")); err != nil || len(b) == 0 {
		return wrong("paste the key as the authority shows it", "is not base64url")
	}
	return nil
}

// quoted is v as a message shows it: one line, not too long.
func quoted(v string) string {
	if r := []rune(v); len(r) > 60 {
		v = string(r[:57]) + "..."
	}
	return strconv.Quote(v)
}

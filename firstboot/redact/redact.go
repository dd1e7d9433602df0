// Package redact takes secrets out of texts that leave the machine: those that
// are known, in the forms in which programs write them, and what looks like one.
package redact

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Hidden stands where a secret was.
const Hidden = "***"

// shortest is the length of a secret that is looked for, in bytes: shorter ones
// are in every other word.
const shortest = 3

// A Redactor knows secrets.
type Redactor struct{ known *strings.Replacer }

// New makes a Redactor for secrets; empty ones are left out.
func New(secrets ...string) *Redactor {
	var forms []string
	add := func(s string) {
		if len(s) >= shortest && !slices.Contains(forms, s) {
			forms = append(forms, s)
		}
	}
	for _, s := range secrets {
		if s == "" {
			continue
		}
		add(s)
		add(url.QueryEscape(s))
		add(url.PathEscape(s))
		if b, err := json.Marshal(s); err == nil {
			add(string(b[1 : len(b)-1]))
		}
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			add(e.EncodeToString([]byte(s)))
		}
		// Of a text with many lines, such as a key, a log may have one.
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); len(line) >= 16 && line != s && !strings.HasPrefix(line, "-----") {
				add(line)
			}
		}
	}
	// The longest first: one secret may begin like another.
	slices.SortStableFunc(forms, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, f := range forms {
		pairs = append(pairs, f, Hidden)
	}
	return &Redactor{strings.NewReplacer(pairs...)}
}

// patterns are what secrets look like, in the order in which they are replaced.
var patterns = []struct {
	like *regexp.Regexp
	with string
}{
	// RFC 7468; also where a JSON text has \n for the line breaks, and cut off.
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`), Hidden},
	{regexp.MustCompile(`(?im)((?:proxy-)?authorization["']?\s*[:=]\s*["']?)[^"'\r\n]+`), "${1}" + Hidden},
	{regexp.MustCompile(`(?i)\b(bearer|basic|digest)\s+[A-Za-z0-9+/=._~-]{8,}`), "${1} " + Hidden},
	{regexp.MustCompile(`(?im)((?:set-)?cookie["']?\s*[:=]\s*["']?)[^"'\r\n]+`), "${1}" + Hidden},
	{regexp.MustCompile(`(__Host-[A-Za-z0-9-]+=)[^;\s"']+`), "${1}" + Hidden},
	// The one-time link, and the invitations and resets of the Pod's own.
	{regexp.MustCompile(`(?i)(/(?:claim|invitations?(?:-tokens)?|password-resets?|workspace-invitations?)/)[A-Za-z0-9._~%+=-]{8,}`), "${1}" + Hidden},
	// JSON Web Tokens (RFC 7519).
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), Hidden},
	// user:password@ in addresses.
	{regexp.MustCompile(`(://[^/\s:@]+:)[^/\s@]+@`), "${1}" + Hidden + "@"},
	{regexp.MustCompile(`(?i)([a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|hmac|preauth|credential)[a-z0-9_]*\\?["']?\s*[:=]\s*)(?:\w+\()?(?:\\?"[^"\\\r\n]*|'[^'\r\n]*|[^\s"',;&)}\]]+)`), "${1}" + Hidden},
}

// Text is text without secrets.
func (r *Redactor) Text(text string) string {
	text = r.known.Replace(text)
	for _, p := range patterns {
		text = p.like.ReplaceAllString(text, p.with)
	}
	return text
}

// Known is text without the secrets that were given, with all else as it is.
func (r *Redactor) Known(text string) string { return r.known.Replace(text) }

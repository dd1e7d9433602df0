package redact

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

const canary = `c4n/ry+"p ss&wörd`

func TestKnown(t *testing.T) {
	key := "-----BEGIN X-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0w\n-----END X-----\n"
	r := New(canary, canary+"longer", "", "ab", key)
	quoted, _ := json.Marshal(canary)
	for _, form := range []string{
		canary, url.QueryEscape(canary), url.PathEscape(canary), string(quoted[1 : len(quoted)-1]),
		base64.StdEncoding.EncodeToString([]byte(canary)), base64.RawURLEncoding.EncodeToString([]byte(canary)),
		canary + "longer", "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0w", strings.ReplaceAll(key, "\n", `\n`),
	} {
		got := r.Text("before " + form + " after")
		if strings.Contains(got, strings.TrimRight(form, "=")) || strings.Contains(got, "longer") || strings.Contains(got, "MIGH") || !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") {
			t.Errorf("%q became %q", form, got)
		}
	}
	// What is too short to be told from words, and no secret at all.
	if got := New("", "ab").Text("a cab"); got != "a cab" {
		t.Errorf("got %q", got)
	}
}

func TestLooksLikeOne(t *testing.T) {
	const x = "c4nary0c4nary0c4"
	for _, text := range []string{
		"-----BEGIN EC PRIVATE KEY-----\n" + x + "\n-----END EC PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\\n" + x + "\\n-----END PRIVATE KEY-----",
		"-----BEGIN RSA PRIVATE KEY-----\n" + x, // cut off by the end of a log
		"Authorization: Bearer " + x, "authorization: Basic " + x, `{"Authorization":"` + x + `"}`, "got Bearer " + x + " from", "proxy-authorization: Digest " + x,
		"Cookie: __Host-prose-claim=" + x + "; b=" + x, "set-cookie: a=" + x, "__Host-prose-claim=" + x,
		"GET /claim/" + x + " HTTP/2.0", "https://admin.prose.example.org/claim/" + x, "/api/v1/invitations/" + x + "/accept", "/invitation-tokens/" + x,
		"eyJ" + x + ".eyJ" + x + "." + x, "https://user:" + x + "@example.org/",
		"password=" + x, `"password": "` + x + ` with spaces"`, "smtp_password = '" + x + "'", "?token=" + x + "&a=b", "API_KEY:" + x, `\"secret\":\"` + x + `\"`, "SMTP_PASSWORD=" + x,
		"ADMIN_TOKEN_V2=" + x, "passwd: " + x, `invitation_token: Some("` + x + `")`, `password: "` + x,
	} {
		if got := New().Text("begin " + text + "\nend"); strings.Contains(got, x[:8]) || !strings.Contains(got, Hidden) || !strings.HasPrefix(got, "begin ") {
			t.Errorf("%q became %q", text, got)
		}
	}
	// What helps stays.
	for _, text := range []string{
		"owner@example.org", "ssl_certificate_key /etc/letsencrypt/live/example.org/privkey.pem;", "-----BEGIN CERTIFICATE-----\n" + x + "\n-----END CERTIFICATE-----",
		"GET /claim HTTP/1.1", "cookies are fine", "error: 1 of 4 password resets", "https://example.org:443/", "basic auth", "serial 03a9c01f",
	} {
		if got := New().Text(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("password=x", "hidden")
	f.Fuzz(func(t *testing.T, text, secret string) {
		if got := New(secret).Text(text); len(secret) > 4 && !strings.Contains(Hidden, secret) && strings.Contains(got, secret) && !strings.Contains(secret, "*") && !strings.Contains(secret, " ") {
			t.Errorf("%q became %q, with %q", text, got, secret)
		}
	})
}

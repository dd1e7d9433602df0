package scenario

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

// The outside is somebody elsewhere: every name leads to the machine's public
// address, and only certificates of the authority are trusted.
type outside struct {
	roots   *x509.CertPool
	web     *http.Client
	cookies []*http.Cookie // of the claim, for those who ask for them
}

// attempt is how long one try may take.
const attempt = 30 * time.Second

func newOutside(roots *x509.CertPool) *outside {
	o := &outside{roots: roots}
	o.web = &http.Client{
		Timeout:       attempt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:       o.dial,
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			DisableKeepAlives: true, // the next request may be to another boot
		},
	}
	return o
}

// dial connects to the machine, whatever the name.
func (o *outside) dial(ctx context.Context, _, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return (&net.Dialer{Timeout: attempt}).DialContext(ctx, "tcp", net.JoinHostPort(Address, port))
}

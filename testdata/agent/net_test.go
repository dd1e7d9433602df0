package agenttest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/testdata/machine"
)

// translate has everybody in the world reach a machine at another address than
// its own, but not the machine itself: it finds the router there, which refuses
// it.
func (w *world) translate(t testing.TB, public, own string) {
	t.Helper()
	rules := fmt.Sprintf(`table ip translation {
	chain out { type nat hook output priority -100; ip daddr %[1]s dnat to %[2]s; }
	chain hairpin { type nat hook prerouting priority -100; iifname "veth0" ip daddr %[1]s dnat to %[3]s; }
}`, public, own, elsewhere)
	cmd := exec.Command("nsenter", "-t", fmt.Sprint(w.pid), "-n", "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("translating addresses: %v\n%s", err, out)
	}
}

// visitorAt is a visitor who finds the machine at an address.
func (w *world) visitorAt(at string) *http.Client {
	dial := machine.Dialer(w.pid)
	return &http.Client{
		Timeout:       15 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: w.roots},
			DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(to)
				if err != nil {
					return nil, err
				}
				return dial(ctx, network, net.JoinHostPort(at, port))
			},
		},
	}
}

package scenario

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/prose-im/prose-image/builder/host"
)

// Tests that need a network of their own run themselves again in one.
const envInside = "SCENARIO_TEST_NETWORK"

// inNetwork reports whether this is a network of the test's own; if not, it has
// run the test in one.
func inNetwork(t *testing.T, env ...string) bool {
	t.Helper()
	if os.Getenv(envInside) != "" {
		if devices, err := net.Interfaces(); err != nil || len(devices) != 1 {
			t.Fatalf("this is no network of our own: %v, %v", devices, err)
		}
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := host.Output(t.Context(), host.Command{
		Args: []string{self, "-test.run", "^" + t.Name() + "$", "-test.v", "-test.timeout", "5m"}, Env: append(env, envInside+"=1"), Network: true, Tied: true,
	})
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// envTools is the directory of the tools, for the test in the network.
const envTools = "SCENARIO_TEST_TOOLS"

func TestWorld(t *testing.T) {
	tools := os.Getenv(envTools)
	if tools == "" {
		tools = t.TempDir()
		build := exec.Command("go", "build", "-modfile=../../testdata/tools/go.mod", "-o", tools+"/",
			"github.com/letsencrypt/pebble/v2/cmd/pebble", "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building Pebble: %v\n%s", err, out)
		}
		if err := LookTools(tools); err != nil {
			t.Error(err)
		}
	}
	if inNetwork(t, envTools+"="+tools) {
		insideWorld(t, tools)
	}
}

// asker asks the world's name server.
var asker = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, dnsAddress)
}}

func resolve(ctx context.Context, name string) ([]string, error) {
	addresses, err := asker.LookupIP(ctx, "ip4", name)
	var all []string
	for _, a := range addresses {
		all = append(all, a.String())
	}
	return all, err
}

func insideWorld(t *testing.T, tools string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := network(ctx); err != nil {
		t.Fatal(err)
	}
	if err := network(ctx); err != nil { // the second scenario's
		t.Fatal(err)
	}
	logs := t.TempDir()
	for range 2 { // one scenario after another
		w, err := newWorld(ctx, t.TempDir(), logs, tools)
		if err != nil {
			t.Fatal(err)
		}
		checkWorld(t, ctx, w)
		w.close()
		if conn, err := net.Dial("tcp", pebbleAddress); err == nil {
			conn.Close()
			t.Error("the authority outlives its world")
		}
	}
	if log, err := os.ReadFile(filepath.Join(logs, "pebble.log")); err != nil || len(log) == 0 {
		t.Errorf("what Pebble says is not kept: %v", err)
	}
}

func checkWorld(t *testing.T, ctx context.Context, w *world) {
	names := []string{"chat.example", "prose.chat.example"}
	for state, want := range map[string][]string{"right": {Address}, "wrong": {elsewhere}, "none": nil} {
		if err := w.names.all(ctx, names, state); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if got, err := resolve(ctx, name); !slices.Equal(got, want) {
				t.Errorf("%s: %s is %v (%v)", state, name, got, err)
			}
		}
	}
	for _, set := range [][]string{{"A", "192.0.2.7", "192.0.2.8"}, {"AAAA", "2001:db8::1"}, {"CAA", "issue;ca.example"}, {"CNAME", "other.example"}, {"TXT", "one=1; two", "three"}, {"SRV", "0 5 5222 prose.x.example"}} {
		if err := w.names.set(ctx, "x.example", set[0], set[1:]); err != nil {
			t.Error(err)
		}
		if set[0] == "A" {
			if got, _ := resolve(ctx, "x.example"); len(got) != 2 {
				t.Errorf("two addresses are %v", got)
			}
		}
		if set[0] == "TXT" {
			got, err := asker.LookupTXT(ctx, "x.example")
			if slices.Sort(got); !slices.Equal(got, []string{"one=1; two", "three"}) {
				t.Errorf("two texts are %q, %v", got, err)
			}
		}
		if set[0] == "SRV" {
			var none *net.DNSError
			if _, _, err := asker.LookupSRV(ctx, "", "", "y.example"); !errors.As(err, &none) || !none.IsNotFound {
				t.Errorf("a service that is not there: %v", err)
			}
			for _, network := range []string{"udp", "tcp"} {
				r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, network, dnsAddress)
				}}
				_, got, err := r.LookupSRV(ctx, "", "", "X.example")
				if err != nil || len(got) != 1 || *got[0] != (net.SRV{Target: "prose.x.example.", Port: 5222, Priority: 0, Weight: 5}) {
					t.Errorf("a service over %s: %v, %v", network, got, err)
				}
				// Whatever else is asked comes from behind.
				if err := w.names.all(ctx, names, "right"); err != nil {
					t.Fatal(err)
				}
				if got, err := r.LookupIP(ctx, "ip4", names[0]); err != nil || len(got) != 1 || got[0].String() != Address {
					t.Errorf("%s over %s: %v, %v", names[0], network, got, err)
				}
			}
		}
		if err := w.names.set(ctx, "x.example", set[0], nil); err != nil {
			t.Error(err)
		}
	}

	// A website that is not ours, and then one that knows us.
	r := &run{Scenario: &Scenario{Domain: "chat.example"}, world: w}
	for _, state := range []struct {
		arg, location string
		code          int
	}{{"plain", "", 404}, {"redirects", "http://prose.chat.example/.well-known/acme-challenge/x", 302}, {"plain", "", 404}} {
		if err := doWebsite(ctx, r, []string{state.arg}); err != nil {
			t.Fatal(err)
		}
		stay := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		res, err := stay.Get("http://" + elsewhere + "/.well-known/acme-challenge/x")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != state.code || res.Header.Get("Location") != state.location {
			t.Errorf("the website %s: %d, %q", state.arg, res.StatusCode, res.Header.Get("Location"))
		}
	}

	// The guest trusts CA for the server itself; the certificate has the
	// address that the guest sees.
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM([]byte(w.authority.CA)) {
		t.Fatal("no certificate of the authority's server")
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: trusted},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, acmeAddress)
		},
		DisableKeepAlives: true,
	}}
	ask := func() (*http.Response, string) {
		res, err := client.Get(acmeDirectory)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(body)
	}
	if res, body := ask(); res.StatusCode != 200 || !strings.Contains(body, `"https://10.0.2.2:14000/order-plz"`) {
		t.Errorf("directory: %s\n%s", res.Status, body)
	}
	w.authority.setDown(true)
	if res, body := ask(); res.StatusCode != 503 || !strings.Contains(body, "urn:ietf:params:acme:error:") {
		t.Errorf("directory of an authority that is down: %s\n%s", res.Status, body)
	}
	w.authority.setDown(false)
	if n := len(w.authority.seen()); n != 0 {
		t.Errorf("%d orders", n)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	customer := acme.Client{Directory: acmeDirectory, HTTPClient: client}
	account, err := customer.NewAccount(ctx, acme.Account{TermsOfServiceAgreed: true, PrivateKey: key})
	if err != nil {
		t.Fatal(err)
	}
	order := func(name string) error {
		_, err := customer.NewOrder(ctx, account, acme.Order{Identifiers: []acme.Identifier{{Type: "dns", Value: name}}})
		return err
	}
	if err := order("chat.example"); err != nil {
		t.Error(err)
	}
	if err := order("no name"); err == nil { // refused: it costs nothing
		t.Error("an order of no name is taken")
	}
	if seen := w.authority.seen(); len(seen) != 1 || !slices.Equal(seen[0].Names, []string{"chat.example"}) {
		t.Errorf("orders: %v", seen)
	}
	if got, err := get(ctx, http.DefaultClient, "http://"+metadata+"/"); err != nil || !strings.Contains(got, metadataSecret) {
		t.Errorf("metadata: %q, %v", got, err)
	}
}

func TestOrders(t *testing.T) {
	// Payload {"identifiers":[{"type":"dns","value":"a.example"},{"type":"dns","value":"b.example"}]} of RFC 8555 section 7.4.
	o := orderIn([]byte(`{"protected":"e30","payload":"eyJpZGVudGlmaWVycyI6W3sidHlwZSI6ImRucyIsInZhbHVlIjoiYS5leGFtcGxlIn0seyJ0eXBlIjoiZG5zIiwidmFsdWUiOiJiLmV4YW1wbGUifV19","signature":""}`))
	if !slices.Equal(o.Names, []string{"a.example", "b.example"}) {
		t.Errorf("order %v", o)
	}
	for _, bad := range []string{"", "{}", `{"payload":"?"}`, "[]"} {
		if o := orderIn([]byte(bad)); o.Names != nil {
			t.Errorf("%q: %v", bad, o)
		}
	}
	seen := []order{o, {Names: []string{"c.example"}}}
	if err := wantOrders(seen, "2"); err != nil {
		t.Error(err)
	}
	if err := wantOrders(seen, "1"); err == nil || !strings.Contains(err.Error(), "2 orders: a.example+b.example, c.example") {
		t.Errorf("one order: %v", err)
	}
}

// A listener of one network leads to the machine, whatever comes first: the
// words of who asks or of who answers.
func TestForward(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	machine, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Close()
	go func() {
		conn, err := machine.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "hello ")
		_, _ = io.Copy(conn, conn)
	}()
	go forward(l, machine.Addr().String())
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(conn, "machine")
	_ = conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello machine" {
		t.Errorf("%q, %v", got, err)
	}
}

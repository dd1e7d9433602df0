package preflight

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/dns"
)

const (
	redirects  = 5
	bodyLimit  = 1 << 10
	fetchLimit = 10 * time.Second
	prefix     = "probe-"
	left       = time.Hour // age at which a nonce can only be a killed run's
)

// nonce is a file that NGINX serves, known to nobody else.
type nonce struct {
	file, token, content string
}

func (n nonce) remove() { os.Remove(n.file) }

// serve puts a nonce into the webroot, and takes away what killed runs left.
func (s Settings) serve() (nonce, error) {
	if old, err := filepath.Glob(filepath.Join(s.Webroot, prefix+"*")); err == nil {
		for _, f := range old {
			if info, err := os.Lstat(f); err == nil && time.Since(info.ModTime()).Abs() > left {
				os.Remove(f)
			}
		}
	}
	token := prefix + rand.Text()
	n := nonce{filepath.Join(s.Webroot, token), token, rand.Text()}
	if err := os.WriteFile(n.file, []byte(n.content), 0o644); err != nil {
		return nonce{}, fmt.Errorf("serving a nonce: %w", err)
	}
	// NGINX's workers read it, whatever our umask.
	if err := os.Chmod(n.file, 0o644); err != nil {
		n.remove()
		return nonce{}, fmt.Errorf("serving a nonce: %w", err)
	}
	return n, nil
}

// otherAnswer is an answer that is not ours: proof that somebody else is there.
type otherAnswer struct{ what string }

func (e *otherAnswer) Error() string { return e.what }

// fetch gets the nonce of a name at one address, and follows redirects as an
// authority would. It says whether there were any: our own NGINX makes none.
func (s Settings) fetch(ctx context.Context, name string, address netip.Addr, n nonce, local []netip.Addr) (redirected bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	at := &url.URL{Scheme: "http", Host: name, Path: "/.well-known/acme-challenge/" + n.token}
	if s.http() != 80 {
		at.Host = net.JoinHostPort(name, strconv.Itoa(int(s.http())))
	}
	addresses := []netip.Addr{address}
	for range redirects + 1 {
		next, err := s.get(ctx, at, addresses, n)
		if err != nil || next == nil {
			return redirected, err
		}
		at, redirected = next, true
		if addresses, err = s.resolve(ctx, at, local); err != nil {
			return true, err
		}
	}
	return true, &otherAnswer{fmt.Sprintf("more than %d redirects", redirects)}
}

// get fetches once. It returns where a redirect leads, or nil once the nonce
// has come.
func (s Settings) get(ctx context.Context, at *url.URL, addresses []netip.Addr, n nonce) (*url.URL, error) {
	port := s.port(at)
	transport := &http.Transport{
		// The address decides, not the name; and no proxy.
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			last := errors.New("no address")
			for _, a := range addresses {
				conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(a, port).String())
				if err == nil {
					return conn, nil
				}
				last = err
			}
			return nil, last
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 16 << 10,
		// An authority does not check the certificate either: this is how the
		// first one comes about.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: at.Hostname()},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	switch resp.StatusCode {
	case http.StatusOK:
		if strings.TrimSpace(string(body)) != n.content {
			return nil, &otherAnswer{"it serves a file that is not ours"}
		}
		return nil, nil
	case 301, 302, 303, 307, 308:
		next, err := at.Parse(resp.Header.Get("Location"))
		if err != nil {
			return nil, &otherAnswer{"it redirects to no URL"}
		}
		next.Fragment, next.User = "", nil
		if p := s.port(next); p != s.http() && p != s.https() || next.Scheme != "http" && next.Scheme != "https" || next.Hostname() == "" {
			return nil, &otherAnswer{fmt.Sprintf("it redirects to %.200q, which is not on port 80 or 443", next.Redacted())}
		}
		return next, nil
	}
	return nil, &otherAnswer{fmt.Sprintf("it answers with status %d", resp.StatusCode)}
}

// port is the port a URL leads to, 0 if it is none.
func (s Settings) port(u *url.URL) uint16 {
	if p := u.Port(); p != "" {
		n, _ := strconv.ParseUint(p, 10, 16)
		return uint16(n)
	}
	if u.Scheme == "https" {
		return s.https()
	}
	return s.http()
}

// resolve returns the addresses behind a redirect. One that no authority could
// reach is refused before we connect: the redirect is a stranger's wish.
func (s Settings) resolve(ctx context.Context, u *url.URL, local []netip.Addr) ([]netip.Addr, error) {
	var addresses []netip.Addr
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		addresses = []netip.Addr{a}
	} else {
		six, err := s.DNS.Lookup(ctx, u.Hostname(), dns.AAAA)
		if err != nil {
			return nil, err
		}
		four, err := s.DNS.Lookup(ctx, u.Hostname(), dns.A)
		if err != nil {
			return nil, err
		}
		addresses = append(six.Addresses, four.Addresses...)
	}
	if len(addresses) == 0 {
		return nil, &otherAnswer{fmt.Sprintf("it redirects to %s, which has no address", u.Hostname())}
	}
	for _, a := range addresses {
		if !s.reachable(a, local) {
			return nil, &otherAnswer{fmt.Sprintf("it redirects to the special-purpose address %v", a)}
		}
	}
	return addresses, nil
}

// special are the networks of the special-purpose registries (RFC 6890 and its
// updates) that are not globally reachable.
var special = func() []netip.Prefix {
	var p []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16",
		"3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "ff00::/8",
	} {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}()

// reachable says whether an authority could connect to an address. A private
// one counts if it is our own interface's, for authorities in the same network;
// this machine's inside and its link never do.
func (s Settings) reachable(a netip.Addr, local []netip.Addr) bool {
	a = a.Unmap().WithZone("")
	holds := func(p netip.Prefix) bool { return p.Contains(a) }
	if slices.ContainsFunc(s.Allow, holds) || !slices.ContainsFunc(special, holds) {
		return true
	}
	if a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
		return false
	}
	return slices.Contains(local, a)
}

// interfaces are the addresses of this machine's interfaces.
func interfaces() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("reading this machine's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, a.Unmap())
			}
		}
	}
	return out, nil
}

// Prose-pod-dashboard stands in for upstream's dashboard image: nginx with
// static files, and /api/ handed on to an upstream whose name is resolved once,
// when the configuration is read.
package main

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prose-im/prose-image/testdata/pod/web"
)

const (
	listen       = "0.0.0.0:8080"
	upstreamHost = "prose-pod-api"
	upstreamPort = 8080
)

//go:embed static
var static embed.FS

func main() {
	log.SetFlags(0)
	log.SetPrefix("nginx: ")
	proxy := &proxy{}
	if err := proxy.resolve(); err != nil {
		log.Fatalf("[emerg] %v in /etc/nginx/upstreams.conf:5", err)
	}
	files, err := fs.Sub(static, "static")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", web.Files(files, time.Hour))
	mux.Handle("/api/", proxy.handler())

	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		for range hangup {
			if err := proxy.resolve(); err != nil {
				log.Printf("[emerg] %v in /etc/nginx/upstreams.conf:5", err)
			}
		}
	}()
	if err := web.Serve(listen, mux); err != nil {
		log.Fatalf("[emerg] %v", err)
	}
}

// proxy hands requests on to the addresses that the upstream's name had.
type proxy struct {
	addresses atomic.Pointer[[]netip.AddrPort]
}

func (p *proxy) resolve() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", upstreamHost)
	if err != nil {
		return fmt.Errorf("host not found in upstream \"%s:%d\"", upstreamHost, upstreamPort)
	}
	var addresses []netip.AddrPort
	for _, a := range found {
		addresses = append(addresses, netip.AddrPortFrom(a.Unmap(), upstreamPort))
	}
	p.addresses.Store(&addresses)
	return nil
}

func (p *proxy) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	var last error
	for _, a := range *p.addresses.Load() {
		conn, err := dialer.DialContext(ctx, network, a.String())
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}

func (p *proxy) handler() http.Handler {
	return &httputil.ReverseProxy{
		Transport: &http.Transport{
			DialContext:           p.dial,
			ResponseHeaderTimeout: 30 * time.Second,
			MaxIdleConnsPerHost:   1,
			IdleConnTimeout:       time.Minute,
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "api"
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, "/api")
			r.Out.URL.RawPath = strings.TrimPrefix(r.In.URL.RawPath, "/api")
			r.Out.Host = r.In.Host
			client, _, _ := net.SplitHostPort(r.In.RemoteAddr)
			r.Out.Header.Set("X-Real-IP", client)
			r.Out.Header.Set("X-Forwarded-For", client)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			status := http.StatusBadGateway
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				status = http.StatusGatewayTimeout
			}
			log.Printf("[error] %v while connecting to upstream, request: \"%s %s\"", err, r.Method, r.URL.Path)
			http.Error(w, fmt.Sprintf("%d %s", status, http.StatusText(status)), status)
		},
	}
}

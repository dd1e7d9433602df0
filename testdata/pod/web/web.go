// Package web serves static files as the nginx of upstream's images does.
package web

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os/signal"
	"path"
	"strings"
	"syscall"
	"time"
)

// Files serves the files of root. A path that names none gets /index.html, so
// that the application can route by itself. With expires above zero answers may
// be kept that long.
func Files(root fs.FS, expires time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "405 Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
		if info, err := fs.Stat(root, name); name == "" || err != nil || info.IsDir() {
			name = "index.html"
		}
		if expires > 0 {
			w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", int(expires.Seconds())))
			w.Header().Set("Expires", time.Now().Add(expires).UTC().Format(http.TimeFormat))
		}
		if name == "index.html" { // ServeFileFS would redirect to the directory
			page, err := fs.ReadFile(root, name)
			if err != nil {
				http.Error(w, "404 Not Found", http.StatusNotFound)
				return
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Write(page)
			return
		}
		http.ServeFileFS(w, r, root, name)
	})
}

// Serve serves until SIGTERM or SIGINT (at once) or SIGQUIT (gracefully).
func Serve(address string, handler http.Handler) error {
	listener, err := net.Listen("tcp4", address) // nginx's plain "listen" knows no IPv6
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 60 * time.Second}
	quick, stopQuick := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stopQuick()
	gentle, stopGentle := signal.NotifyContext(context.Background(), syscall.SIGQUIT)
	defer stopGentle()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	case <-quick.Done():
		return server.Close()
	case <-gentle.Done():
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return server.Shutdown(ctx)
	}
}

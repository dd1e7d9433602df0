package door

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Serve answers on the socket that systemd passes (sd_listen_fds(3)) until ctx
// ends. The key is the credential "key" (systemd.exec(5), LoadCredential); the
// epoch and the marks of used links are in the state directory; api is the URL of
// the Pod's API. Why the door stays closed is written to log.
func Serve(ctx context.Context, api string, log io.Writer) error {
	key, err := os.ReadFile(os.Getenv("CREDENTIALS_DIRECTORY") + "/key")
	if err != nil {
		return fmt.Errorf("reading the door's key: %w", err)
	}
	if len(key) != KeySize {
		return fmt.Errorf("reading the door's key: it has %d bytes, not %d", len(key), KeySize)
	}
	state := os.Getenv("STATE_DIRECTORY")
	if state == "" {
		return errors.New("the door has no state directory")
	}
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		return errors.New("the door was not started by its socket")
	}
	const firstFD = 3 // SD_LISTEN_FDS_START
	l, err := net.FileListener(os.NewFile(firstFD, "socket"))
	if err != nil {
		return fmt.Errorf("taking the door's socket: %w", err)
	}
	s := &http.Server{
		Handler:     &Door{Key: key, State: state, API: api, Log: func(err error) { fmt.Fprintf(log, "error: %v\n", err) }},
		ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second,
		MaxHeaderBytes: 32 << 10,
	}
	context.AfterFunc(ctx, func() { s.Close() })
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the door: %w", err)
	}
	return nil
}

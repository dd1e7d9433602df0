package door

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Socket is where NGINX asks; prose-door.socket has it too.
const Socket = "/run/prose-door.sock"

// Account has the door at a socket look whether an account exists, as each
// request through NGINX does.
func Account(ctx context.Context, socket string) (bool, error) {
	code, err := get(ctx, socket, accountPath)
	switch {
	case err != nil:
		return false, err
	case code == http.StatusNoContent:
		return true, nil
	case code == http.StatusUnauthorized:
		return false, nil
	}
	return false, fmt.Errorf("asking the door whether an account exists: status %d", code)
}

// Works reports why the door at a socket would not take a link that is made now:
// it is not there, or has another key, or cannot read its directory. Nothing is
// used up, and the Pod is not asked.
func Works(ctx context.Context, socket string, key []byte, state string, now time.Time) error {
	path, err := Path(key, state, now)
	if err != nil {
		return err
	}
	code, err := get(ctx, socket, path)
	switch {
	case err != nil:
		return err
	case code == http.StatusOK, code == http.StatusTooManyRequests:
		return nil
	}
	return fmt.Errorf("showing the door a link: status %d", code)
}

func get(ctx context.Context, socket, path string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://door"+path, nil)
	if err != nil {
		return 0, err
	}
	res, err := client.Do(req)
	if err != nil {
		// Without the address, which may be a link.
		var whole *url.Error
		if errors.As(err, &whole) {
			err = whole.Err
		}
		return 0, fmt.Errorf("asking the door at %s: %w", socket, err)
	}
	defer res.Body.Close()
	io.CopyN(io.Discard, res.Body, 64<<10)
	return res.StatusCode, nil
}

package scenario

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// webCommands look at the machine as a browser elsewhere does.
var webCommands = []Command{
	{Name: "http", Args: "STATUS METHOD URL [header NAME REGEXP] [body REGEXP] [send JSON] [claimed]", least: 3, most: -1,
		valid: validHTTP, do: doHTTP,
		Doc: "Sends a request from elsewhere, trusting only the authority, and follows no redirect. `claimed` sends the cookie of the claim."},
	{Name: "redirects", Args: "URL TO", least: 2, most: 2, do: doRedirects,
		Doc: "GET of an address answers with a redirect to another."},
}

// A request is the arguments of http.
type request struct {
	status      int
	method, url string
	headers     [][2]string // name, pattern
	bodies      []string    // patterns
	send        string
	claimed     bool
}

func validHTTP(args []string) error {
	_, err := parseHTTP(args)
	return err
}

func parseHTTP(args []string) (q request, err error) {
	if q.status, err = strconv.Atoi(args[0]); err != nil || q.status < 100 || q.status > 599 {
		return q, fmt.Errorf("%q is no status of HTTP", args[0])
	}
	q.method, q.url = args[1], args[2]
	if u, err := url.Parse(strings.NewReplacer("{", "", "}", "").Replace(q.url)); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return q, fmt.Errorf("%q is no address such as https://{domain}/", q.url)
	}
	args = args[3:]
	take := func(n int) ([]string, error) {
		if len(args) < n+1 {
			return nil, fmt.Errorf("%s wants more words", args[0])
		}
		words := args[1 : n+1]
		args = args[n+1:]
		return words, nil
	}
	for len(args) > 0 {
		switch args[0] {
		case "header":
			w, err := take(2)
			if err != nil {
				return q, err
			}
			if _, err := regexp.Compile(w[1]); err != nil {
				return q, err
			}
			q.headers = append(q.headers, [2]string{w[0], w[1]})
		case "body":
			w, err := take(1)
			if err != nil {
				return q, err
			}
			if _, err := regexp.Compile(w[0]); err != nil {
				return q, err
			}
			q.bodies = append(q.bodies, w[0])
		case "send":
			w, err := take(1)
			if err != nil {
				return q, err
			}
			q.send = w[0]
		case "claimed":
			q.claimed = true
			args = args[1:]
		default:
			return q, fmt.Errorf("%q is none of header, body, send, claimed", args[0])
		}
	}
	return q, nil
}

func doHTTP(ctx context.Context, r *run, args []string) error {
	q, err := parseHTTP(args)
	if err != nil {
		return err
	}
	res, body, err := r.outside.request(ctx, q)
	if err != nil {
		return err
	}
	if res.StatusCode != q.status {
		return fmt.Errorf("status %d: %s", res.StatusCode, clip(body))
	}
	for _, h := range q.headers {
		if err := matches(strings.Join(res.Header.Values(h[0]), "\n"), h[1], true); err != nil {
			return fmt.Errorf("header %s: %w", h[0], err)
		}
	}
	for _, p := range q.bodies {
		if err := matches(body, p, true); err != nil {
			return err
		}
	}
	return nil
}

// request sends one request and reads what comes back, at most a mebibyte.
func (o *outside) request(ctx context.Context, q request) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, strings.NewReader(q.send))
	if err != nil {
		return nil, "", err
	}
	if q.send != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.claimed {
		for _, c := range o.cookies {
			req.AddCookie(c)
		}
	}
	res, err := o.web.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res, string(body), err
}

func doRedirects(ctx context.Context, r *run, args []string) error {
	res, _, err := r.outside.request(ctx, request{method: http.MethodGet, url: args[0]})
	if err != nil {
		return err
	}
	if to := res.Header.Get("Location"); res.StatusCode/100 != 3 || to != args[1] {
		return fmt.Errorf("status %d, Location %q", res.StatusCode, to)
	}
	return nil
}

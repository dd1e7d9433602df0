package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// doorCommands are about who owns a new Pod.
var doorCommands = []Command{
	{Name: "locked", do: doLocked,
		Doc: "Without the claim, the routes that make the first account, name the workspace or reload the API answer 403; the last one 401 once an account exists."},
	{Name: "claim", do: doClaim,
		Doc: "Asks the machine for the one-time link: looking at it shows a page, using it works once and not twice. Later steps have its cookie."},
	{Name: "account", Args: "NAME PASSWORD", least: 2, most: 2, do: doAccount,
		Doc: "Names the workspace and makes the first account through NGINX with the claim's cookie. Later steps know the password."},
	{Name: "member", Args: "NAME PASSWORD", least: 2, most: 2, do: doMember,
		Doc: "Makes one more account, in the server's container. Later steps know the password."},
}

// guarded are the routes that make somebody the owner.
var guarded = []request{
	{method: http.MethodPut, url: "/api/v1/init/first-account", send: `{"username":"mallory","password":"of the first visitor","nickname":"Mallory"}`},
	{method: http.MethodPut, url: "/api/init/first-account", send: `{"username":"mallory","password":"of the first visitor","nickname":"Mallory"}`},
	{method: http.MethodPut, url: "/api/v1/workspace", send: `{"name":"Mallory's"}`},
	{method: http.MethodPut, url: "/api/v1//workspace", send: `{"name":"Mallory's"}`},
	{method: http.MethodPut, url: "/api/v1/x/../workspace", send: `{"name":"Mallory's"}`},
	{method: http.MethodPut, url: "/api/v1/%77orkspace", send: `{"name":"Mallory's"}`},
	{method: http.MethodPost, url: "/api/reload"},
}

func (r *run) admin(path string) string { return "https://admin.prose." + r.Domain + path }

func doLocked(ctx context.Context, r *run, _ []string) error {
	var wrong []error
	for _, q := range guarded {
		path := q.url
		q.url = r.admin(path)
		res, body, err := r.outside.request(ctx, q)
		if err != nil {
			return err
		}
		// Once an account exists the API itself refuses to reload for a stranger.
		if res.StatusCode != http.StatusForbidden && (res.StatusCode != http.StatusUnauthorized || path != "/api/reload") {
			wrong = append(wrong, fmt.Errorf("%s %s: status %d: %s", q.method, path, res.StatusCode, clip(body)))
		}
	}
	return errors.Join(wrong...)
}

// claimLink finds the link in what the agent says to root.
var claimLink = regexp.MustCompile(`https://[^\s"'<>]+/claim/[^\s"'<>]+`)

func doClaim(ctx context.Context, r *run, _ []string) error {
	out, err := r.machine.root(ctx, "prose-firstboot link")
	if err != nil {
		return err
	}
	link := claimLink.FindString(out)
	if !strings.HasPrefix(link, r.admin("/claim/")) {
		return fmt.Errorf("prose-firstboot link says no address that begins with %s", r.admin("/claim/"))
	}
	try := func(method string, want int) (*http.Response, error) {
		res, body, err := r.outside.request(ctx, request{method: method, url: link})
		if err == nil && res.StatusCode != want {
			// The link is left out: it is a secret until it was used.
			err = fmt.Errorf("%s of the link: status %d, not %d: %s", method, res.StatusCode, want, clip(body))
		}
		return res, err
	}
	for range 2 { // looking uses nothing up
		if _, err := try(http.MethodGet, http.StatusOK); err != nil {
			return err
		}
	}
	res, err := try(http.MethodPost, http.StatusSeeOther)
	if err != nil {
		return err
	}
	if r.outside.cookies = res.Cookies(); len(r.outside.cookies) == 0 {
		return errors.New("POST of the link: no cookie")
	}
	if res, err = try(http.MethodPost, http.StatusForbidden); err != nil {
		return err
	}
	if len(res.Cookies()) > 0 {
		return errors.New("a second POST of the link gives a cookie")
	}
	return nil
}

func doAccount(ctx context.Context, r *run, args []string) error {
	r.saved["password."+args[0]] = args[1]
	put := func(path string, body map[string]string, want ...int) error {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		res, answer, err := r.outside.request(ctx, request{method: http.MethodPut, url: r.admin(path), send: string(text), claimed: true})
		if err != nil {
			return err
		}
		for _, w := range want {
			if res.StatusCode == w {
				return nil
			}
		}
		return fmt.Errorf("PUT %s: status %d: %s", path, res.StatusCode, clip(answer))
	}
	// The agent may have named the workspace.
	if err := put("/api/v1/workspace", map[string]string{"name": "Scenario"}, http.StatusCreated, http.StatusConflict); err != nil {
		return err
	}
	return put("/api/v1/init/first-account", map[string]string{"username": args[0], "password": args[1], "nickname": args[0]}, http.StatusCreated)
}

func doMember(ctx context.Context, r *run, args []string) error {
	r.saved["password."+args[0]] = args[1]
	_, err := r.machine.root(ctx, fmt.Sprintf("docker exec %s prosodyctl shell user create %s %s prosody:member",
		containerOf("server"), quote(args[0]+"@"+r.Domain), quote(args[1])))
	return err
}

// quote makes one word of a script, for sh.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

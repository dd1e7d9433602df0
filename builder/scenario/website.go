package scenario

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
)

// websiteCommands make something of the address elsewhere, where at first
// nobody answers.
var websiteCommands = []Command{
	{Name: "website", Args: "plain|redirects", least: 1, most: 1,
		valid: func(args []string) error { return oneOf(args[0], []string{"plain", "redirects"}) }, do: doWebsite,
		Doc: "At `{elsewhere}` the owner's website answers over HTTP: with pages of its own only, or it redirects challenges and discovery to prose.{domain}."},
}

// A website is a server that knows nothing of the machine but its name.
type website struct {
	domain    string
	redirects atomic.Bool
}

func doWebsite(_ context.Context, r *run, args []string) error {
	w := r.world
	if w.website == nil {
		s := &website{domain: r.Domain}
		if err := w.serve("the website", net.JoinHostPort(elsewhere, "80"), &http.Server{Handler: s}, "", ""); err != nil {
			return err
		}
		w.website = s
	}
	w.website.redirects.Store(args[0] == "redirects")
	return nil
}

func (s *website) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.redirects.Load() && strings.HasPrefix(r.URL.Path, "/.well-known/") {
		http.Redirect(w, r, "http://prose."+s.domain+r.URL.RequestURI(), http.StatusFound)
		return
	}
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	fmt.Fprintln(w, "Welcome to our shop.")
}

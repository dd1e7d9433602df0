package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/redact"
)

// webhookLimit is for a whole delivery.
const webhookLimit = 10 * time.Second

// A Webhook is an address that gets messages as JSON, by POST.
type Webhook struct {
	URL string `json:"url,omitempty"` // https; often it has a token in it
}

// Send posts a message. A status from 200 to 299 is a success; what the answer
// says is not looked at, and no redirect is followed.
func (w Webhook) Send(ctx context.Context, m Message) error {
	u, err := url.Parse(w.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return errors.New("its address does not begin with https://")
	}
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("writing the message: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, webhookLimit, fmt.Errorf("it has not answered after %v", webhookLimit))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return w.hide(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "prose-firstboot")
	client := &http.Client{
		// No proxy, and nothing that outlives the delivery.
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return w.hide(err)
	}
	res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("it answers with status %d", res.StatusCode)
	}
	return nil
}

// hide takes the address out of an error: any part of it may be the token.
func (w Webhook) hide(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without method and address
	}
	parts := []string{w.URL}
	if u, e := url.Parse(w.URL); e == nil {
		parts = append(parts, u.RequestURI(), u.Host, u.Hostname(), u.RawQuery)
		parts = append(parts, strings.FieldsFunc(u.RequestURI(), func(r rune) bool { return strings.ContainsRune("/?&=", r) })...)
	}
	return errors.New(redact.New(parts...).Known(err.Error()))
}

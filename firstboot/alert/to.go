package alert

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/prose-im/prose-image/firstboot/redact"
)

// A Message is what is sent.
type Message struct {
	Domain  string    `json:"domain"`
	State   string    `json:"state"` // of the whole machine
	Matters []Change  `json:"matters"`
	At      time.Time `json:"at"`
}

// To is who is told.
type To struct {
	Mail    Mail    `json:"mail,omitzero"`
	Webhook Webhook `json:"webhook,omitzero"`
}

// String keeps the secrets out of logs, as those below.
func (To) String() string { return redact.Hidden }

// GoString is what %#v prints.
func (To) GoString() string { return redact.Hidden }

func (Mail) String() string      { return redact.Hidden }
func (Mail) GoString() string    { return redact.Hidden }
func (Webhook) String() string   { return redact.Hidden }
func (Webhook) GoString() string { return redact.Hidden }

// A Way is one channel that is set.
type Way struct {
	Name   string // "mail", "webhook"
	Target string // digest of who is told
	// Send delivers, or says in words without secrets and addresses why not. It
	// has a deadline of its own.
	Send func(context.Context, Message) error
}

// Ways are the channels that are set.
func (t To) Ways() []Way {
	var ways []Way
	if t.Mail.To != "" && t.Mail.Host != "" {
		ways = append(ways, Way{"mail", digest(t.Mail.To), t.Mail.Send})
	}
	if t.Webhook.URL != "" {
		ways = append(ways, Way{"webhook", digest(t.Webhook.URL), t.Webhook.Send})
	}
	return ways
}

func digest(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

// Package publish brings finished images to targets, in stages that can be
// interrupted anywhere and run again.
package publish

import (
	"context"
	"encoding/json"
	"time"
)

// An Entry is one line of the journal: what is about to be done at a target, or
// what came of it. Whoever comes after a crash knows from an intent without a
// result that the outcome is unknown, and looks at the target.
type Entry struct {
	Operation string // one image at one target; see Operation
	Stage     string // of the engine
	Call      string // of the target, with what tells it from others of that stage
	Kind      EntryKind
	Data      json.RawMessage // arguments or outcome; no secrets
	At        time.Time
}

// EntryKind tells intents from results.
type EntryKind string

// The kinds of entries.
const (
	Intent EntryKind = "intent"
	Result EntryKind = "result"
)

// A Journal keeps entries. They are on disk when Append returns, in the order in
// which they were appended.
type Journal interface {
	Append(ctx context.Context, e Entry) error
	Entries(ctx context.Context, operation string) ([]Entry, error)
	// Operations lists those that have entries, oldest first.
	Operations(ctx context.Context) ([]string, error)
}

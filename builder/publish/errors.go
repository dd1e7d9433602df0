package publish

import (
	"fmt"
	"strings"
	"time"
)

// An Outcome is what an error of a call says about the call.
type Outcome string

// The outcomes of a call that gave an error.
const (
	Unknown Outcome = "unknown" // it may have been done: time ran out, the connection broke, a 5xx
	Refused Outcome = "refused" // it was not done, and may be asked for again: a 429
	Failed  Outcome = "failed"  // it was not done, and asking again will not help
)

// A CallError is what a target makes of an error of [Target.Do].
type CallError struct {
	Outcome Outcome
	After   time.Duration // earliest time to ask again; zero: the engine decides
	Help    string        // next thing to do for people, such as raising a quota
	Err     error
}

func (e *CallError) Error() string { return e.Err.Error() }
func (e *CallError) Unwrap() error { return e.Err }

// Hint is the next thing to do.
func (e *CallError) Hint() string { return e.Help }

// A BadImageError is an image that says something impossible of itself.
type BadImageError struct{ Err error }

func (e *BadImageError) Error() string {
	return "publishing: " + strings.ReplaceAll(e.Err.Error(), "\n", "; ")
}
func (e *BadImageError) Unwrap() error { return e.Err }

// A ConflictError says that other bytes are at the target under the image's
// name. Nothing there was changed.
type ConflictError struct {
	Call string
	Note string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("other bytes are published under this name: %s", e.Note)
}

// Hint is the next thing to do.
func (e *ConflictError) Hint() string {
	return "what is published stays as it is: publish with another --version"
}

// An IncompleteError says that some parts are published and others are not.
// Running the same again goes on from there.
type IncompleteError struct {
	Target    string
	Published []string // parts
	Failures  []Failure
}

// A Failure is a step that failed for good in this run.
type Failure struct {
	Part  string `json:"part,omitempty"`
	Call  string `json:"call"`
	Error string `json:"error"`
	err   error
}

func (e *IncompleteError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "published incompletely to %s", e.Target)
	for _, f := range e.Failures {
		fmt.Fprintf(&b, "; %s: %s", f.Call, f.Error)
	}
	return b.String()
}

// Hint is the next thing to do.
func (e *IncompleteError) Hint() string {
	for _, f := range e.Failures {
		if h := hint(f.err); h != "" {
			return h + ", then run the same command again; what is published stays"
		}
	}
	return "run the same command again; what is published stays"
}

// A LateError says what was waited for in vain.
type LateError struct {
	What string
	Time time.Duration
}

func (e *LateError) Error() string { return fmt.Sprintf("waited %s for %s", e.Time, e.What) }

// Hint is the next thing to do.
func (e *LateError) Hint() string { return "run the same command again; it goes on from here" }

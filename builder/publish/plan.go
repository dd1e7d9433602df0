package publish

import (
	"context"
	"encoding/json"
	"strings"
	"time"
)

// A Stage is one section of the way. The first three are private and can be
// taken back; nobody but the publisher sees what they made.
type Stage string

// The stages, in order. Looking comes before each step of all of them.
const (
	Upload   Stage = "upload"   // bring the bytes there
	Register Stage = "register" // make an image of them
	Verify   Stage = "verify"   // see that it is what was meant
	Public   Stage = "publish"  // the gate: others see it from here on
	Finish   Stage = "finish"   // indexes and pointers that lead to it, and tidying up
)

// Stages lists them in order, with a line for people.
var Stages = []struct {
	Stage Stage
	Doc   string
}{
	{Upload, "the bytes are brought there, where nobody sees them"},
	{Register, "an image is made of them, still private; copied to each region"},
	{Verify, "what is there is read back and compared"},
	{Public, "the gate: it becomes visible, when every part has passed the stages before or failed for good"},
	{Finish, "indexes and pointers lead to it, and what was temporary goes; only when nothing failed"},
}

// private tells whether a step of s may be undone unnoticed.
func (s Stage) private() bool { return s == Upload || s == Register || s == Verify }

// A Step is one thing that a target is asked to do.
type Step struct {
	Stage Stage  `json:"stage"`
	Call  string `json:"call"`           // unique in the plan; what people read
	Part  string `json:"part,omitempty"` // file or region; empty: it concerns all parts
	// Again says that doing it twice is doing it once, because of a client
	// token, a name that the target keeps unique, or what it is. After an
	// unknown outcome other steps wait for the target's horizon.
	Again bool `json:"again"`
}

// Name is the call without the stage that it may begin with, for people.
func (s Step) Name() string { return strings.TrimPrefix(s.Call, string(s.Stage)+" ") }

// A State is what has become of a step, as the target shows it.
type State string

// The states of a step.
const (
	Absent   State = "absent"
	Pending  State = "pending" // the target is working on it
	Done     State = "done"
	Conflict State = "conflict" // something else is there under its name
)

// Seen is what a look at the target says of one step.
type Seen struct {
	State State
	ID    string    // what the target calls it
	Note  string    // for people, mostly about a conflict
	Made  time.Time // when the target made it; zero: it does not say
	Twins []string  // further ones for the same bytes, to be removed; ID is the oldest
	Data  json.RawMessage
}

// A Leftover is something temporary of ours at a target.
type Leftover struct {
	ID        string    `json:"id"`
	Operation string    `json:"operation"` // from its mark
	What      string    `json:"what"`
	Made      time.Time `json:"made"` // or last written to
}

// A Target is a place that images are published to, as one process sees it.
// A context that ends stops every method. Errors of Do are best a [CallError];
// any other leaves open whether it was done.
type Target interface {
	// Plan lists the steps for an image, in an order in which they can be
	// done. It touches nothing.
	Plan(img Image) ([]Step, error)
	// Look says what is there, by call; a call that it leaves out is absent.
	// It changes nothing. Answers are what earlier steps gave, by call: a hint
	// at where to look, of things that may be gone.
	Look(ctx context.Context, img Image, answers map[string]json.RawMessage) (map[string]Seen, error)
	// Do does one step. What it returns is journaled: ids, no secrets.
	Do(ctx context.Context, img Image, s Step, seen map[string]Seen) (json.RawMessage, error)
	// Remove removes what Look called a twin or Leftovers listed. That it is
	// gone already is no error.
	Remove(ctx context.Context, id string) error
	// Leftovers lists what carries our mark and is not public.
	Leftovers(ctx context.Context) ([]Leftover, error)
	// Horizon is how long something made may be missing from what Look sees.
	Horizon() time.Duration
}

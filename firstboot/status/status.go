// Package status is what the agent tells people, and programs. There is one
// list; the text on a terminal, the message of the day, the console, the page
// and the JSON are views of it.
//
// Nothing here is secret: the list is world-readable and served to whoever
// comes. What only root and the console may see, the one-time link, is not
// part of it.
package status

import "time"

// Schema is the version of the JSON. Fields may be added without a new one.
const Schema = 1

// A State is the whole machine in one word.
type State string

// The states, from good to bad.
const (
	Ready    State = "ready"    // everything answers
	Degraded State = "degraded" // it answers, and something needs a look
	Working  State = "working"  // on the way; nobody needs to do anything
	Waiting  State = "waiting"  // on the way, and the owner has to do something
	Broken   State = "broken"   // it does not answer, and the agent alone has not mended it
)

// ExitCode is what "prose-firstboot status" ends with: 0 ready, 1 broken,
// 2 degraded or still working, 3 waiting for the owner.
func (s State) ExitCode() int {
	switch s {
	case Ready:
		return 0
	case Degraded, Working:
		return 2
	case Waiting:
		return 3
	}
	return 1
}

// A Progress is how far one item of the list is.
type Progress string

// How far an item is.
const (
	Done    Progress = "done"
	Warning Progress = "warning" // done, and needs a look
	Doing   Progress = "doing"   // the agent is at it, or will be
	Owner   Progress = "owner"   // the owner has to do something
	Failed  Progress = "failed"  // the agent cannot do it, and tries again
)

// An Item is one thing that has to be so on a machine that serves. Texts are
// sentences for an owner who knows their domain and nothing of this program.
type Item struct {
	Key      string    `json:"key"`   // one stable word: settings, network, nginx, pod, certificates, dns, account, ...
	Title    string    `json:"title"` // a noun: "Certificates"
	Progress Progress  `json:"progress"`
	What     string    `json:"what"`             // what is so
	Why      string    `json:"why,omitempty"`    // what is in the way, when something is
	Do       string    `json:"do,omitempty"`     // what the owner does about it
	Points   []string  `json:"points,omitempty"` // each single thing that is wrong, as a sentence: errors in settings
	Type     []string  `json:"type,omitempty"`   // commands or lines to copy for it, one each
	Ways     []Way     `json:"ways,omitempty"`   // what the owner may choose from; one is enough
	Again    time.Time `json:"again,omitzero"`   // when the agent tries again, when it waits
}

// A Way is one of several that do the same.
type Way struct {
	Title string   `json:"title"`          // a sentence
	Type  []string `json:"type,omitempty"` // commands or lines to copy for it, one each
}

// A RecordState is how a DNS record was found.
type RecordState string

// How records are found.
const (
	Present RecordState = "present"
	Missing RecordState = "missing"
	Wrong   RecordState = "wrong"   // something else is there
	Unknown RecordState = "unknown" // DNS did not answer, or it was not asked yet
)

// A Record is one DNS record that the domain should have.
type Record struct {
	Name  string      `json:"name"`           // without the last dot
	Type  string      `json:"type"`           // A, AAAA, CNAME, SRV, CAA
	TTL   int         `json:"ttl"`            // seconds
	Data  string      `json:"data"`           // as a zone file has it; empty when only the owner knows it
	Hint  string      `json:"hint,omitempty"` // what to put there, when Data is empty
	For   string      `json:"for"`            // what does not work without it, a noun
	State RecordState `json:"state"`
	Found []string    `json:"found,omitempty"` // what is there instead, as data
	// Optional records make something better; nothing waits for them.
	Optional bool `json:"optional,omitempty"`
}

// A Certificate is what a name is served with.
type Certificate struct {
	Name        string    `json:"name"`
	Signed      bool      `json:"signed"` // by an authority, not by the machine itself
	Issuer      string    `json:"issuer,omitempty"`
	Serial      string    `json:"serial,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"` // SHA-256 in hexadecimal
	NotAfter    time.Time `json:"not_after,omitzero"`
	Renew       time.Time `json:"renew,omitzero"` // when it will be replaced
	Orders      int       `json:"orders"`         // begun at the authority so far, as far as remembered
}

// A Link is something to open.
type Link struct {
	Title string `json:"title"`
	URL   string `json:"url"`
}

// Versions are what the Pod says of itself.
type Versions struct {
	API    string `json:"api"`
	Server string `json:"server"`
}

// A Disk is the file system with the Pod's data.
type Disk struct {
	Size uint64 `json:"size"` // bytes that may be used, with those that are
	Free uint64 `json:"free"` // bytes left for everybody but root
}

// A Status is the list with what belongs to it.
type Status struct {
	Schema int       `json:"schema"`
	State  State     `json:"state"`
	At     time.Time `json:"at"`             // when the agent looked
	Again  time.Time `json:"again,omitzero"` // when it looks again at the latest
	Agent  string    `json:"agent"`          // its version

	Domain       string        `json:"domain,omitempty"` // empty: unconfigured
	Addresses    []string      `json:"addresses,omitempty"`
	Links        []Link        `json:"links,omitempty"`
	Locked       bool          `json:"locked"` // no account exists: the dashboard wants the one-time link
	Pod          *Versions     `json:"pod,omitempty"`
	Disk         *Disk         `json:"disk,omitempty"`
	Items        []Item        `json:"items"`
	Records      []Record      `json:"records,omitempty"`
	Certificates []Certificate `json:"certificates,omitempty"`
}

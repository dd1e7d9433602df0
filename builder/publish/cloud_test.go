package publish_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/publish/publishtest"
)

// A cloud is a provider in a process of its own as far as clients can tell: it
// speaks HTTP. It is strict, and as slow to show things as the worst of them:
//
//   - an upload is begun with a client token, gets its parts in any order, and
//     is complete when all of it is there with the sum it was begun with;
//   - registering takes no token, but names are unique in a region;
//   - copying to another region takes no token, and names are not unique there;
//   - lists show what was made, or removed, only lag later;
//   - images take time to become available;
//   - making an image public is counted, and removing a public one is an alarm.
type cloud struct {
	*httptest.Server
	clock *publishtest.Clock

	mu     sync.Mutex
	next   int
	up     map[string]*cloudUpload
	images map[string]*cloudImage
	alarms []string // what a client should not have asked
	opened int      // times that an image became public
	quota  map[string]bool
	busy   map[string]time.Time // until when who was told to wait must not write
}

const (
	lag      = 40 * time.Second // of lists
	settling = 60 * time.Second // until an image is available
	partSize = 1 << 10
	home     = "home"
)

var regions = []string{home, "north", "south"}

type cloudUpload struct {
	ID        string            `json:"id"`
	Size      int64             `json:"size"`
	SHA256    string            `json:"sha256"`
	Tags      map[string]string `json:"tags"`
	Parts     []int             `json:"parts"` // that are there
	Complete  bool              `json:"complete"`
	Made      time.Time         `json:"made"`
	token     string
	bytes     map[int][]byte
	destroyed time.Time
}

type cloudImage struct {
	ID        string            `json:"id"`
	Region    string            `json:"region"`
	Name      string            `json:"name"`
	SHA256    string            `json:"sha256"`
	Tags      map[string]string `json:"tags"`
	Made      time.Time         `json:"made"`
	State     string            `json:"state"` // pending, available
	Public    bool              `json:"public"`
	destroyed time.Time
}

func newCloud(t *testing.T) *cloud {
	c := &cloud{clock: publishtest.NewClock(), up: map[string]*cloudUpload{}, images: map[string]*cloudImage{}, quota: map[string]bool{}, busy: map[string]time.Time{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /uploads", c.begin)
	mux.HandleFunc("GET /uploads", c.listUploads)
	mux.HandleFunc("GET /uploads/{id}", c.getUpload)
	mux.HandleFunc("PUT /uploads/{id}/parts/{n}", c.putPart)
	mux.HandleFunc("POST /uploads/{id}/complete", c.complete)
	mux.HandleFunc("DELETE /uploads/{id}", c.deleteUpload)
	mux.HandleFunc("POST /regions/{region}/images", c.register)
	mux.HandleFunc("POST /regions/{region}/copies", c.copyImage)
	mux.HandleFunc("GET /regions/{region}/images", c.listImages)
	mux.HandleFunc("GET /regions/{region}/images/{id}", c.getImage)
	mux.HandleFunc("POST /regions/{region}/images/{id}/public", c.open)
	mux.HandleFunc("DELETE /regions/{region}/images/{id}", c.deleteImage)
	c.Server = httptest.NewServer(c.faulty(mux))
	t.Cleanup(c.Close)
	return c
}

// faulty does to a request what its header Fault says.
func (c *cloud) faulty(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form := publishtest.Form(r.Header.Get("Fault"))
		c.mu.Lock()
		what := r.Method + " " + r.URL.Path
		if until := c.busy[what]; r.Method != http.MethodGet && c.clock.Now().Before(until) {
			c.alarms = append(c.alarms, what+" came back too early")
		}
		if form == publishtest.Throttle {
			c.busy[what] = c.clock.Now().Add(7 * time.Second)
		}
		c.mu.Unlock()
		switch form {
		case publishtest.Throttle:
			w.Header().Set("Retry-After", "7")
			http.Error(w, "too many requests", http.StatusTooManyRequests)
			return
		case publishtest.Broken:
			http.Error(w, "something is wrong here", http.StatusInternalServerError)
			return
		case publishtest.Before:
			cut(w, nil)
			return
		}
		rec := httptest.NewRecorder()
		c.mu.Lock()
		next.ServeHTTP(rec, r)
		c.mu.Unlock()
		switch form {
		case publishtest.Late:
			http.Error(w, "no answer from behind", http.StatusBadGateway)
		case publishtest.After:
			cut(w, nil)
		case publishtest.Torn:
			cut(w, rec.Body.Bytes())
		default:
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.Code)
			_, _ = w.Write(rec.Body.Bytes())
		}
	})
}

// cut breaks the connection, after half of a body if there is one.
func cut(w http.ResponseWriter, body []byte) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	if body != nil {
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body)+1)
		_, _ = conn.Write(body[:len(body)/2])
	}
	conn.Close()
}

// alarm refuses what no client of ours may ask.
func (c *cloud) alarm(w http.ResponseWriter, r *http.Request, format string, args ...any) {
	c.alarms = append(c.alarms, fmt.Sprintf("%s %s: ", r.Method, r.URL)+fmt.Sprintf(format, args...))
	http.Error(w, fmt.Sprintf(format, args...), http.StatusBadRequest)
}

// read reads a body of exactly these fields.
func read[T any](c *cloud, w http.ResponseWriter, r *http.Request) (body T, ok bool) {
	if len(r.URL.RawQuery) > 0 || r.Header.Get("Content-Type") != "application/json" {
		c.alarm(w, r, "no query, and a body of JSON, please")
		return body, false
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		// A body that was cut is nobody's fault.
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			c.alarm(w, r, "%v", err)
		}
		return body, false
	}
	return body, true
}

func (c *cloud) answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func (c *cloud) id(kind string) string {
	c.next++
	return fmt.Sprintf("%s-%04d", kind, c.next)
}

func goodTags(tags map[string]string) bool {
	return len(tags) == 2 && len(tags["prose-image/digest"]) == 64 && len(tags["prose-image/operation"]) == 32
}

func (c *cloud) begin(w http.ResponseWriter, r *http.Request) {
	b, ok := read[struct {
		Size   int64             `json:"size"`
		SHA256 string            `json:"sha256"`
		Token  string            `json:"token"`
		Tags   map[string]string `json:"tags"`
	}](c, w, r)
	if !ok {
		return
	}
	if b.Size <= 0 || len(b.SHA256) != 64 || b.Token == "" || len(b.Token) > 64 || !goodTags(b.Tags) {
		c.alarm(w, r, "a field is missing or wrong: %+v", b)
		return
	}
	for _, u := range c.up {
		if u.token != b.Token || !u.destroyed.IsZero() {
			continue
		}
		if u.Size != b.Size || u.SHA256 != b.SHA256 {
			c.alarm(w, r, "the token stands for something else")
			return
		}
		c.answer(w, http.StatusOK, u)
		return
	}
	u := &cloudUpload{ID: c.id("upload"), Size: b.Size, SHA256: b.SHA256, Tags: b.Tags, Made: c.clock.Now(), token: b.Token, bytes: map[int][]byte{}}
	c.up[u.ID] = u
	c.answer(w, http.StatusCreated, u)
}

func (c *cloud) upload(w http.ResponseWriter, r *http.Request) *cloudUpload {
	u := c.up[r.PathValue("id")]
	if u == nil || !u.destroyed.IsZero() {
		http.Error(w, "no such upload", http.StatusNotFound)
		return nil
	}
	return u
}

func (c *cloud) getUpload(w http.ResponseWriter, r *http.Request) {
	if u := c.upload(w, r); u != nil {
		c.answer(w, http.StatusOK, u)
	}
}

// shown tells whether lists show a thing: for lag after it was made they do
// not, and for as long after it was removed they still do.
func (c *cloud) shown(made, destroyed time.Time) bool {
	now := c.clock.Now()
	return now.Sub(made) >= lag && (destroyed.IsZero() || now.Sub(destroyed) < lag)
}

func (c *cloud) listUploads(w http.ResponseWriter, r *http.Request) {
	found := []*cloudUpload{}
	for _, u := range c.up {
		if c.shown(u.Made, u.destroyed) {
			found = append(found, u)
		}
	}
	c.answer(w, http.StatusOK, found)
}

func (c *cloud) putPart(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut
	}
	u := c.upload(w, r)
	if u == nil {
		return
	}
	n, err := strconv.Atoi(r.PathValue("n"))
	want := min(partSize, u.Size-int64(n)*partSize)
	sum := sha256.Sum256(b)
	switch {
	case err != nil || n < 0 || int64(len(b)) != want || r.Header.Get("Content-SHA256") != hex.EncodeToString(sum[:]):
		c.alarm(w, r, "part %d has %d bytes, not %d, or another sum", n, len(b), want)
	case u.Complete:
		http.Error(w, "it is complete", http.StatusConflict)
	default:
		u.bytes[n] = b
		if !slices.Contains(u.Parts, n) {
			u.Parts = append(u.Parts, n)
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func (c *cloud) complete(w http.ResponseWriter, r *http.Request) {
	if _, ok := read[struct{}](c, w, r); !ok {
		return
	}
	u := c.upload(w, r)
	if u == nil {
		return
	}
	if u.Complete {
		http.Error(w, "it is complete", http.StatusConflict)
		return
	}
	h := sha256.New()
	for n := range (u.Size + partSize - 1) / partSize {
		h.Write(u.bytes[int(n)])
	}
	if hex.EncodeToString(h.Sum(nil)) != u.SHA256 {
		c.alarm(w, r, "parts are missing, or have other bytes")
		return
	}
	u.Complete = true
	w.WriteHeader(http.StatusNoContent)
}

func (c *cloud) deleteUpload(w http.ResponseWriter, r *http.Request) {
	if u := c.upload(w, r); u != nil {
		u.destroyed = c.clock.Now()
		w.WriteHeader(http.StatusNoContent)
	}
}

func (c *cloud) region(w http.ResponseWriter, r *http.Request) (string, bool) {
	name := r.PathValue("region")
	if !slices.Contains(regions, name) {
		c.alarm(w, r, "there is no region %s", name)
		return "", false
	}
	return name, true
}

func (c *cloud) register(w http.ResponseWriter, r *http.Request) {
	region, ok := c.region(w, r)
	if !ok {
		return
	}
	b, ok := read[struct {
		Name   string            `json:"name"`
		Upload string            `json:"upload"`
		Tags   map[string]string `json:"tags"`
	}](c, w, r)
	if !ok {
		return
	}
	if b.Name == "" || !goodTags(b.Tags) || region != home {
		c.alarm(w, r, "a field is missing or wrong: %+v", b)
		return
	}
	for _, i := range c.images {
		if i.Region == region && i.Name == b.Name && i.destroyed.IsZero() {
			http.Error(w, "the name is taken", http.StatusConflict)
			return
		}
	}
	u := c.up[b.Upload]
	if u == nil || !u.destroyed.IsZero() || !u.Complete {
		http.Error(w, "no such upload, or not complete", http.StatusNotFound)
		return
	}
	if b.Tags["prose-image/digest"] != u.SHA256 {
		c.alarm(w, r, "the tag does not say what the bytes are")
		return
	}
	i := &cloudImage{ID: c.id("image"), Region: region, Name: b.Name, SHA256: u.SHA256, Tags: b.Tags, Made: c.clock.Now()}
	c.images[i.ID] = i
	c.answer(w, http.StatusCreated, map[string]string{"id": i.ID})
}

func (c *cloud) copyImage(w http.ResponseWriter, r *http.Request) {
	region, ok := c.region(w, r)
	if !ok {
		return
	}
	b, ok := read[struct {
		Source string            `json:"source"`
		Name   string            `json:"name"`
		Tags   map[string]string `json:"tags"`
	}](c, w, r)
	if !ok {
		return
	}
	if b.Name == "" || !goodTags(b.Tags) || region == home {
		c.alarm(w, r, "a field is missing or wrong: %+v", b)
		return
	}
	from := c.images[b.Source]
	if from == nil || !from.destroyed.IsZero() || from.Region != home || c.state(from) != "available" {
		http.Error(w, "no such image, or not available", http.StatusNotFound)
		return
	}
	if c.quota[region] {
		http.Error(w, "the quota of images is used up", http.StatusForbidden)
		return
	}
	i := &cloudImage{ID: c.id("image"), Region: region, Name: b.Name, SHA256: from.SHA256, Tags: b.Tags, Made: c.clock.Now()}
	c.images[i.ID] = i
	c.answer(w, http.StatusCreated, map[string]string{"id": i.ID})
}

func (c *cloud) state(i *cloudImage) string {
	if c.clock.Now().Sub(i.Made) < settling {
		return "pending"
	}
	return "available"
}

func (c *cloud) listImages(w http.ResponseWriter, r *http.Request) {
	region, ok := c.region(w, r)
	if !ok {
		return
	}
	for k := range r.URL.Query() {
		if k != "name" {
			c.alarm(w, r, "unknown parameter %s", k)
			return
		}
	}
	found := []*cloudImage{}
	for _, i := range c.images {
		name := r.URL.Query().Get("name")
		if i.Region == region && (name == "" || i.Name == name) && c.shown(i.Made, i.destroyed) {
			i.State = c.state(i)
			found = append(found, i)
		}
	}
	c.answer(w, http.StatusOK, found)
}

func (c *cloud) image(w http.ResponseWriter, r *http.Request) *cloudImage {
	i := c.images[r.PathValue("id")]
	if i == nil || !i.destroyed.IsZero() || i.Region != r.PathValue("region") {
		http.Error(w, "no such image", http.StatusNotFound)
		return nil
	}
	return i
}

func (c *cloud) getImage(w http.ResponseWriter, r *http.Request) {
	if i := c.image(w, r); i != nil {
		c.answer(w, http.StatusOK, i)
	}
}

func (c *cloud) open(w http.ResponseWriter, r *http.Request) {
	if _, ok := read[struct{}](c, w, r); !ok {
		return
	}
	i := c.image(w, r)
	if i == nil {
		return
	}
	if c.state(i) != "available" {
		c.alarm(w, r, "it is not available")
		return
	}
	// The gate: nothing is public while a region still waits for its image.
	for _, region := range regions {
		waits := false
		for _, other := range c.images {
			if other.Region == region && other.destroyed.IsZero() {
				if waits = c.state(other) != "available"; !waits {
					break
				}
			}
		}
		if waits {
			c.alarm(w, r, "%s has no image that is available yet", region)
			return
		}
	}
	if !i.Public {
		c.opened++
	}
	i.Public = true
	w.WriteHeader(http.StatusNoContent)
}

func (c *cloud) deleteImage(w http.ResponseWriter, r *http.Request) {
	i := c.image(w, r)
	if i == nil {
		return
	}
	if i.Public {
		c.alarm(w, r, "it is public")
		return
	}
	i.destroyed = c.clock.Now()
	w.WriteHeader(http.StatusNoContent)
}

// check says what is wrong: anything but one public image in each region.
func (c *cloud) check(digest string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var bad []string
	bad = append(bad, c.alarms...)
	for _, region := range regions {
		n := 0
		for _, i := range c.images {
			if i.Region != region || !i.destroyed.IsZero() {
				continue
			}
			n++
			if !i.Public || i.SHA256 != digest {
				bad = append(bad, fmt.Sprintf("image %+v", *i))
			}
		}
		if n != 1 {
			bad = append(bad, fmt.Sprintf("%d images in %s", n, region))
		}
	}
	if c.opened != len(regions) {
		bad = append(bad, fmt.Sprintf("images became public %d times", c.opened))
	}
	for _, u := range c.up {
		if u.destroyed.IsZero() {
			bad = append(bad, "upload "+u.ID)
		}
	}
	if bad != nil {
		return errors.New(strings.Join(bad, "\n"))
	}
	return nil
}

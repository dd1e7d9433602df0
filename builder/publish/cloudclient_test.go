package publish_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/publish"
	"github.com/prose-im/prose-image/builder/publish/publishtest"
)

// A cloudTarget publishes to a [cloud], as targets of real ones do.
type cloudTarget struct {
	base   string
	client *http.Client
}

// transport is the network of one process.
type transport struct {
	faults *publishtest.Faults
	real   http.RoundTripper
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	form, err := t.faults.Strike(r.Method + " " + r.URL.Path)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	if form == publishtest.Torn && r.Body != nil {
		// It arrives in part, and the connection breaks.
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(b[:len(b)/2]), brokenReader{}))
	} else if form != "" {
		r.Header.Set("Fault", string(form))
	}
	res, err := t.real.RoundTrip(r)
	if err == nil && t.faults.Dead() {
		res.Body.Close()
		return nil, publishtest.ErrDead
	}
	return res, err
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("the line is cut") }

func (c *cloudTarget) Horizon() time.Duration { return lag + 5*time.Second }

// call asks the cloud. It says of errors what they mean.
func (c *cloudTarget) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	header := http.Header{}
	switch b := in.(type) {
	case nil:
	case []byte:
		sum := sha256.Sum256(b)
		header.Set("Content-SHA256", hex.EncodeToString(sum[:]))
		body = bytes.NewReader(b)
	default:
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		header.Set("Content-Type", "application/json")
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	r.Header = header
	res, err := c.client.Do(r)
	if err != nil {
		return err // unknown
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	said := fmt.Errorf("%s %s: %s: %s", method, path, res.Status, bytes.TrimSpace(text))
	switch {
	case res.StatusCode == http.StatusTooManyRequests:
		s, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return &publish.CallError{Outcome: publish.Refused, After: time.Duration(s) * time.Second, Err: said}
	case res.StatusCode == http.StatusForbidden:
		return &publish.CallError{Outcome: publish.Failed, Help: "ask for a higher quota", Err: said}
	case res.StatusCode == http.StatusBadRequest:
		return &publish.CallError{Outcome: publish.Failed, Err: said}
	case res.StatusCode >= 300:
		return said
	}
	if out != nil {
		return json.Unmarshal(text, out)
	}
	return nil
}

func imageName(img publish.Image) string { return img.Name + "-" + img.Version }

func (c *cloudTarget) tags(img publish.Image) map[string]string {
	return map[string]string{"prose-image/digest": img.Files[0].SHA256, "prose-image/operation": publish.Operation(c.base, img)}
}

func (c *cloudTarget) Plan(publish.Image) ([]publish.Step, error) {
	// Copies are made of the first image, so it concerns all parts.
	steps := []publish.Step{
		{Stage: publish.Upload, Call: "upload", Again: true},
		{Stage: publish.Register, Call: "register"},
	}
	for _, r := range regions[1:] {
		steps = append(steps, publish.Step{Stage: publish.Register, Call: "copy to " + r, Part: r})
	}
	for _, r := range regions {
		steps = append(steps, publish.Step{Stage: publish.Verify, Call: "verify " + r, Part: r, Again: true})
	}
	for _, r := range regions {
		steps = append(steps, publish.Step{Stage: publish.Public, Call: "publish in " + r, Part: r, Again: true})
	}
	return append(steps, publish.Step{Stage: publish.Finish, Call: "tidy up", Again: true}), nil
}

func (c *cloudTarget) uploads(ctx context.Context) (found []cloudUpload, err error) {
	return found, c.call(ctx, "GET", "/uploads", nil, &found)
}

func (c *cloudTarget) list(ctx context.Context, region, name string) (found []cloudImage, err error) {
	return found, c.call(ctx, "GET", "/regions/"+region+"/images?name="+url.QueryEscape(name), nil, &found)
}

func (c *cloudTarget) Look(ctx context.Context, img publish.Image, answers map[string]json.RawMessage) (map[string]publish.Seen, error) {
	seen := map[string]publish.Seen{}
	digest := img.Files[0].SHA256
	for _, region := range regions {
		found, err := c.list(ctx, region, imageName(img))
		if err != nil {
			return nil, err
		}
		call := "copy to " + region
		if region == home {
			call = "register"
		}
		// The one that is kept comes first: a public one, else the oldest.
		slices.SortFunc(found, func(a, b cloudImage) int {
			if a.Public != b.Public {
				if a.Public {
					return -1
				}
				return 1
			}
			if d := a.Made.Compare(b.Made); d != 0 {
				return d
			}
			return strings.Compare(a.ID, b.ID)
		})
		for i, it := range found {
			if it.Tags["prose-image/digest"] != digest {
				seen[call] = publish.Seen{State: publish.Conflict, Note: fmt.Sprintf("%s in %s has digest %s", it.ID, region, it.Tags["prose-image/digest"])}
				break
			}
			if i > 0 {
				s := seen[call]
				s.Twins = append(s.Twins, "image/"+region+"/"+it.ID)
				seen[call] = s
				continue
			}
			seen[call] = publish.Seen{State: publish.Done, ID: it.ID, Made: it.Made}
			if it.State != "available" {
				seen[call] = publish.Seen{State: publish.Pending, ID: it.ID, Made: it.Made}
			} else if it.SHA256 == digest {
				seen["verify "+region] = publish.Seen{State: publish.Done}
			}
			if it.Public {
				seen["publish in "+region] = publish.Seen{State: publish.Done, ID: it.ID}
			}
		}
	}
	ups, err := c.ours(ctx, img, answers["upload"])
	if err != nil {
		return nil, err
	}
	if seen["register"].ID != "" {
		seen["upload"] = publish.Seen{State: publish.Done}
	}
	seen["tidy up"] = publish.Seen{State: publish.Done}
	for _, u := range ups {
		if u.Complete {
			seen["upload"] = publish.Seen{State: publish.Done, ID: u.ID}
		}
		seen["tidy up"] = publish.Seen{State: publish.Absent, ID: u.ID}
	}
	return seen, nil
}

// ours finds the uploads of an image. An answer leads to one that lists do not
// show yet; what they still show may be gone.
func (c *cloudTarget) ours(ctx context.Context, img publish.Image, answer json.RawMessage) (found []cloudUpload, err error) {
	var ids []string
	if answer != nil {
		var id string
		if err := json.Unmarshal(answer, &id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	all, err := c.uploads(ctx)
	if err != nil {
		return nil, err
	}
	for _, u := range all {
		if u.Tags["prose-image/operation"] == publish.Operation(c.base, img) && !slices.Contains(ids, u.ID) {
			ids = append(ids, u.ID)
		}
	}
	for _, id := range ids {
		u, err := c.get(ctx, id)
		if err != nil {
			return nil, err
		}
		if u.ID != "" {
			found = append(found, u)
		}
	}
	return found, nil
}

// get asks for an upload by its id, which is exact; none when it is gone.
func (c *cloudTarget) get(ctx context.Context, id string) (cloudUpload, error) {
	var u cloudUpload
	err := c.call(ctx, "GET", "/uploads/"+id, nil, &u)
	if err != nil && strings.Contains(err.Error(), "404") {
		return cloudUpload{}, nil
	}
	return u, err
}

func (c *cloudTarget) Do(ctx context.Context, img publish.Image, s publish.Step, seen map[string]publish.Seen) (json.RawMessage, error) {
	switch {
	case s.Call == "upload":
		id, err := c.upload(ctx, img)
		if err != nil {
			return nil, err
		}
		return json.Marshal(id)
	case s.Call == "register":
		body := map[string]any{"name": imageName(img), "upload": seen["upload"].ID, "tags": c.tags(img)}
		return nil, c.call(ctx, "POST", "/regions/"+home+"/images", body, nil)
	case strings.HasPrefix(s.Call, "copy to "):
		body := map[string]any{"name": imageName(img), "source": seen["register"].ID, "tags": c.tags(img)}
		return nil, c.call(ctx, "POST", "/regions/"+s.Part+"/copies", body, nil)
	case s.Stage == publish.Public:
		call := "copy to " + s.Part
		if s.Part == home {
			call = "register"
		}
		return nil, c.call(ctx, "POST", "/regions/"+s.Part+"/images/"+seen[call].ID+"/public", struct{}{}, nil)
	case s.Call == "tidy up":
		return nil, c.Remove(ctx, "upload/"+seen["tidy up"].ID)
	}
	return nil, fmt.Errorf("BUG: no step %q", s.Call)
}

func (c *cloudTarget) upload(ctx context.Context, img publish.Image) (string, error) {
	f := img.Files[0]
	b, err := os.ReadFile(f.Path)
	if err != nil {
		return "", err
	}
	var u cloudUpload
	body := map[string]any{"size": f.Size, "sha256": f.SHA256, "token": publish.Operation(c.base, img), "tags": c.tags(img)}
	if err := c.call(ctx, "POST", "/uploads", body, &u); err != nil {
		return "", err
	}
	if u.Complete {
		return u.ID, nil
	}
	for n, at := 0, 0; at < len(b); n, at = n+1, at+partSize {
		if slices.Contains(u.Parts, n) {
			continue
		}
		if err := c.call(ctx, "PUT", fmt.Sprintf("/uploads/%s/parts/%d", u.ID, n), b[at:min(at+partSize, len(b))], nil); err != nil {
			return "", err
		}
	}
	return u.ID, c.call(ctx, "POST", "/uploads/"+u.ID+"/complete", struct{}{}, nil)
}

func (c *cloudTarget) Remove(ctx context.Context, id string) error {
	path := "/uploads/" + strings.TrimPrefix(id, "upload/")
	if rest, ok := strings.CutPrefix(id, "image/"); ok {
		region, name, _ := strings.Cut(rest, "/")
		path = "/regions/" + region + "/images/" + name
	}
	err := c.call(ctx, "DELETE", path, nil, nil)
	if err != nil && strings.Contains(err.Error(), "404") {
		return nil
	}
	return err
}

func (c *cloudTarget) Leftovers(ctx context.Context) ([]publish.Leftover, error) {
	var left []publish.Leftover
	all, err := c.uploads(ctx)
	if err != nil {
		return nil, err
	}
	for _, u := range all {
		if now, err := c.get(ctx, u.ID); err != nil {
			return nil, err
		} else if op := u.Tags["prose-image/operation"]; op != "" && now.ID != "" {
			left = append(left, publish.Leftover{ID: "upload/" + u.ID, Operation: op, What: "an upload", Made: u.Made})
		}
	}
	for _, region := range regions {
		found, err := c.list(ctx, region, "")
		if err != nil {
			return nil, err
		}
		for _, i := range found {
			op := i.Tags["prose-image/operation"]
			if op == "" || i.Public {
				continue
			}
			err := c.call(ctx, "GET", "/regions/"+region+"/images/"+i.ID, nil, nil)
			if gone := err != nil && strings.Contains(err.Error(), "404"); err != nil && !gone {
				return nil, err
			} else if !gone {
				left = append(left, publish.Leftover{ID: "image/" + region + "/" + i.ID, Operation: op, What: "a private image", Made: i.Made})
			}
		}
	}
	return left, nil
}

func cloudWorld(t *testing.T) *publishtest.World {
	c := newCloud(t)
	one := func(fill byte) publish.Image {
		img := testImage(t, fill)
		img.Files = img.Files[:1]
		return img
	}
	img := one(1)
	return &publishtest.World{
		Address: c.URL, Image: img, Other: one(2), Clock: c.clock,
		Forms: []publishtest.Form{publishtest.Before, publishtest.After, publishtest.Torn, publishtest.Throttle, publishtest.Broken, publishtest.Late},
		Process: func(f *publishtest.Faults) publish.Target {
			return &cloudTarget{base: c.URL, client: &http.Client{Transport: transport{f, c.Client().Transport}}}
		},
		Check: func() error { return c.check(img.Files[0].SHA256) },
		Public: func() (n int) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, i := range c.images {
				if i.Public {
					n++
				}
			}
			return n
		},
		Refuse: func(call string) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.quota["south"] = call != "" && c.opened < 2
			return nil
		},
	}
}

func TestCloud(t *testing.T) {
	cases += publishtest.Run(t, cloudWorld)
}

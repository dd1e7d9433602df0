package certificate

import (
	"slices"
	"time"
)

// bucket holds at most burst and fills up by one each refill.
type bucket struct {
	burst  float64
	refill time.Duration
	have   float64
	at     time.Time
}

func newBucket(burst int, refill time.Duration, now time.Time) *bucket {
	return &bucket{float64(burst), refill, float64(burst), now}
}

// take says whether there was one left.
func (b *bucket) take(now time.Time) bool {
	b.have = min(b.burst, b.have+float64(now.Sub(b.at))/float64(b.refill))
	b.at = now
	if b.have < 1 {
		return false
	}
	b.have--
	return true
}

// modelCA is the authority. Each limit that would be passed is a fault.
type modelCA struct {
	account              int
	accounts, newOrders  *bucket
	domain               *bucket            // certificates of the registered domain
	exact                map[string]*bucket // and of exactly this name
	failures, inARow     map[string]*bucket // of the account and name
	orders, failed, made int
	limits               map[string]int // how often each was passed
	busiest              map[string]int // most failures of a name in one hour
	recent               map[string][]time.Time
}

func newModelCA(now time.Time) *modelCA {
	c := &modelCA{limits: map[string]int{}, exact: map[string]*bucket{}, busiest: map[string]int{}, recent: map[string][]time.Time{}}
	c.accounts = newBucket(10, 18*time.Minute, now)
	c.domain = newBucket(50, 202*time.Minute, now)
	c.register(now)
	return c
}

// register makes an account, for a machine that has lost its own.
func (c *modelCA) register(now time.Time) {
	c.check("accounts of an address", c.accounts, now)
	c.account++
	c.newOrders = newBucket(300, 36*time.Second, now)
	c.failures, c.inARow = map[string]*bucket{}, map[string]*bucket{}
}

func (c *modelCA) check(what string, b *bucket, now time.Time) {
	if !b.take(now) {
		c.limits[what]++
	}
}

func of(m map[string]*bucket, name string, burst int, refill time.Duration, now time.Time) *bucket {
	if m[name] == nil {
		m[name] = newBucket(burst, refill, now)
	}
	return m[name]
}

// begin is an order that has led to nothing yet.
func (c *modelCA) begin(now time.Time) {
	c.orders++
	c.check("orders of an account", c.newOrders, now)
}

// order is one of a name, with its validation.
func (c *modelCA) order(name string, proved, replaces bool, now time.Time) bool {
	c.begin(now)
	if !proved {
		c.failed++
		c.check("failures of a name", of(c.failures, name, 5, 12*time.Minute, now), now)
		c.check("failures in a row", of(c.inARow, name, 1152, day, now), now)
		c.recent[name] = append(slices.DeleteFunc(c.recent[name], func(t time.Time) bool { return now.Sub(t) >= time.Hour }), now)
		c.busiest[name] = max(c.busiest[name], len(c.recent[name]))
		return false
	}
	c.made++
	delete(c.inARow, name)
	if !replaces { // RFC 9773's are exempt
		c.check("certificates of a domain", c.domain, now)
		c.check("certificates of the same name", of(c.exact, name, 5, 34*time.Hour, now), now)
	}
	return true
}

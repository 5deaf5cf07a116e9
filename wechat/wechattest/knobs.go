package wechattest

import (
	"maps"
	"slices"
	"time"
)

// ConsentMode is what happens at the authorize page.
type ConsentMode int

const (
	// Silent lets everybody in without asking.
	Silent ConsentMode = iota
	// AskPage shows a consent page on which a person is chosen and answers.
	// The person is remembered, so that later logins with snsapi_base, and a
	// follower's with snsapi_userinfo, are silent.
	AskPage
	// DeclineNothing is a refusal as WeChat documents it today: no redirect.
	DeclineNothing
	// DeclineLegacy is a refusal as it was: a redirect with state alone.
	DeclineLegacy
)

// Knobs say how the simulator behaves. The zero value is a calm day.
type Knobs struct {
	// User is the ID of whoever holds the phone. Default: the first user. A
	// Browser's own user goes before it.
	User string
	// Consent is what the person answers. Default: Silent.
	Consent ConsentMode
	// AnyBrowser lets browsers outside WeChat authorize, for demos.
	AnyBrowser bool
	// Snapshot makes every visitor a snapshot visitor: is_snapshotuser 1 and
	// virtual ids. A Browser can be one by itself.
	Snapshot bool
	// SnapshotUserInfo is the errcode of sns/userinfo for a snapshot visitor,
	// such as 48001. Default: 0, a virtual profile.
	SnapshotUserInfo int
	// SnapshotRealIDs leaves a snapshot visitor the real ids, as was seen.
	SnapshotRealIDs bool
	// TooOften shows page 10009 instead of authorizing.
	TooOften bool
	// Faults go by path, such as PathToken.
	Faults map[string]Fault
	// CodeTTL is how long a code lives. Default: 5 minutes.
	CodeTTL time.Duration
	// TokenTTL is how long an access token lives. Default: 2 hours.
	TokenTTL time.Duration
	// RefreshTTL is how long a refresh token lives. Default: 30 days.
	RefreshTTL time.Duration
	// ExpiredCode is the errcode for an expired code: the documents have
	// 42003, practice may be 40029. Default: 42003.
	ExpiredCode int
	// AvatarBase, such as "https://sim.test", has pictures drawn by the
	// simulator: headimgurl then points below it. Default: the user's own.
	AvatarBase string
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Fault is what goes wrong at one path. Except for Errcodes and Before, the
// call is carried out first: the code is spent.
type Fault struct {
	// Errcodes are answered in turn, one a call; then all is normal. At the
	// authorize path they are error pages.
	Errcodes []int
	// Times is how many calls the fields below are for. Default: 0, all.
	Times int
	// Before is waited before anything is done or said.
	Before time.Duration
	// Body is waited between the headers with the first byte and the rest.
	Body time.Duration
	// Status replaces 200.
	Status int
	// ContentType replaces text/plain.
	ContentType string
	// Raw replaces the body.
	Raw string
	// Redirect answers 302 to there.
	Redirect string
	// Truncate sends half of the body, and a true length of that half.
	Truncate bool
	// Endless sends a body without end.
	Endless bool
	// Drop closes the connection instead of answering.
	Drop bool
}

func (k Knobs) copy() Knobs {
	k.Faults = maps.Clone(k.Faults)
	for path, fault := range k.Faults {
		fault.Errcodes = slices.Clone(fault.Errcodes)
		k.Faults[path] = fault
	}
	return k
}

func (k Knobs) now() time.Time {
	if k.Now == nil {
		return time.Now()
	}
	return k.Now()
}

func or(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return d
}

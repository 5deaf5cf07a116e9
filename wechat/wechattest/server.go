package wechattest

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// The simulator's paths, as they stand in Calls and Faults.
const (
	PathAuthorize = "/connect/oauth2/authorize"
	PathConfirm   = "/connect/oauth2/confirm" // ours: the consent page's links
	PathToken     = "/sns/oauth2/access_token"
	PathRefresh   = "/sns/oauth2/refresh_token"
	PathUserInfo  = "/sns/userinfo"
	PathAuth      = "/sns/auth"
)

// maxCalls bounds the call log; the counters go on.
const maxCalls = 10_000

// Server plays open.weixin.qq.com and api.weixin.qq.com. Under one of these
// two names it serves that one alone, under any other both.
type Server struct {
	mu       sync.Mutex // guards everything below
	accounts []Account
	users    []User
	knobs    Knobs
	codes    shelf[*grant]
	tokens   shelf[*token] // by access token
	refresh  shelf[*token] // by refresh token
	calls    []*Call
	counts   map[string]int
}

// Call is one request to the simulator. It shows everything, secrets too.
type Call struct {
	Time      time.Time
	Method    string
	Host      string
	Path      string
	Query     url.Values
	RawQuery  string
	UserAgent string
	// Errcode is what was answered, of JSON or of an error page; 0 is success.
	Errcode int
	// Outcome says it in a word: "code", "page", "token", "refused", or
	// "pending" before there is an answer.
	Outcome string
	// User is the ID of the person the answer is about, if any.
	User string
}

// New makes a simulator with these accounts and a few people.
func New(accounts ...Account) *Server {
	s := &Server{counts: map[string]int{}}
	for _, a := range accounts {
		s.AddAccount(a)
	}
	for _, u := range defaultUsers {
		s.AddUser(u)
	}
	return s
}

// AddAccount adds an account, or replaces the one with its AppID.
func (s *Server) AddAccount(a Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts = put(s.accounts, a, func(b Account) bool { return b.AppID == a.AppID })
}

// AddUser adds a person, or replaces the one with that ID.
func (s *Server) AddUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = put(s.users, complete(u), func(v User) bool { return v.ID == u.ID })
}

func put[T any](list []T, item T, same func(T) bool) []T {
	if i := slices.IndexFunc(list, same); i >= 0 {
		list[i] = item
		return list
	}
	return append(list, item)
}

// Users are all people, in the order in which they were added.
func (s *Server) Users() []User {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.users)
}

// Knobs is a copy of the knobs as they stand; Errcodes that were answered
// are gone from it.
func (s *Server) Knobs() Knobs {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.knobs.copy()
}

// Update turns knobs; calls that begin later see it. Faults is never nil.
func (s *Server) Update(change func(*Knobs)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.knobs.copy()
	if next.Faults == nil {
		next.Faults = map[string]Fault{}
	}
	change(&next)
	s.knobs = next.copy()
}

// Calls are the last 10,000 calls, the oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Call, len(s.calls))
	for i, call := range s.calls {
		list[i] = *call
		list[i].Query = maps.Clone(call.Query)
	}
	return list
}

// CountCalls is how often path was called since the start or ResetCalls.
func (s *Server) CountCalls(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[path]
}

// ResetCalls empties the call log and its counters.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.counts = nil, map[string]int{}
}

// ServeHTTP answers as WeChat does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := s.begin(r)
	fault, errcode := s.takeFault(r.URL.Path)
	if !sleep(r.Context(), fault.Before) {
		return
	}
	answer := s.route(r, errcode)
	s.finish(call, answer)
	fault.write(w, r, answer)
}

func (s *Server) route(r *http.Request, errcode int) reply {
	handle, api := s.handler(r)
	switch {
	case handle == nil:
		return reply{status: http.StatusNotFound, contentType: "text/html", outcome: "unknown path"}
	case errcode != 0 && api:
		return s.refuse(errcode)
	case errcode != 0:
		return errorPage(errcode)
	}
	return handle(r)
}

func (s *Server) handler(r *http.Request) (handle func(*http.Request) reply, api bool) {
	host := (&url.URL{Host: r.Host}).Hostname()
	open := map[string]func(*http.Request) reply{
		PathAuthorize: s.authorize, PathConfirm: s.confirm, "/": s.phone,
		"/wechattest/avatar.svg": s.avatar,
	}
	sns := map[string]func(*http.Request) reply{
		PathToken: s.exchange, PathRefresh: s.refreshToken, PathUserInfo: s.userInfo, PathAuth: s.checkToken,
	}
	if handle, ok := open[r.URL.Path]; ok && host != "api.weixin.qq.com" {
		return handle, false
	}
	if handle, ok := sns[r.URL.Path]; ok && host != "open.weixin.qq.com" {
		return handle, true
	}
	return nil, false
}

func (s *Server) begin(r *http.Request) *Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	call := &Call{
		Time: s.knobs.now(), Method: r.Method, Host: r.Host, Path: r.URL.Path, RawQuery: r.URL.RawQuery,
		Query: r.URL.Query(), UserAgent: r.UserAgent(), Outcome: "pending",
	}
	s.calls = append(s.calls, call)
	if len(s.calls) > maxCalls {
		s.calls = s.calls[1:]
	}
	if len(s.counts) < maxCalls || s.counts[call.Path] > 0 {
		s.counts[call.Path]++
	}
	return call
}

// finish completes the log before the answer is written: whoever has the
// answer finds it in the log.
func (s *Server) finish(call *Call, answer reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	call.Errcode, call.Outcome, call.User = answer.errcode, answer.outcome, answer.user
}

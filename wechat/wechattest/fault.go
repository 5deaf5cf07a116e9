package wechattest

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// reply is an answer before faults spoil it.
type reply struct {
	status      int
	contentType string
	location    string
	cookie      *http.Cookie
	body        []byte
	// errcode and outcome are for the call log.
	errcode int
	outcome string
	user    string
}

// takeFault uses up one call's worth of the fault at path.
func (s *Server) takeFault(path string) (fault Fault, errcode int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault, ok := s.knobs.Faults[path]
	if !ok {
		return Fault{}, 0
	}
	left := fault
	if len(left.Errcodes) > 0 {
		errcode, left.Errcodes = left.Errcodes[0], left.Errcodes[1:]
		// The other fields wait until the errcodes are used up.
		fault = Fault{Before: fault.Before}
	} else if left.Times == 1 {
		delete(s.knobs.Faults, path)
		return fault, 0
	} else if left.Times > 1 {
		left.Times--
	}
	s.knobs.Faults[path] = left
	return fault, errcode
}

func (f Fault) apply(answer reply) reply {
	if f.Raw != "" {
		answer.body = []byte(f.Raw)
	}
	if f.ContentType != "" {
		answer.contentType = f.ContentType
	}
	if f.Status != 0 {
		answer.status = f.Status
	}
	if f.Redirect != "" {
		answer.status, answer.location = http.StatusFound, f.Redirect
	}
	if f.Truncate {
		answer.body = answer.body[:len(answer.body)/2]
	}
	return answer
}

func (f Fault) write(w http.ResponseWriter, r *http.Request, answer reply) {
	if f.Drop {
		panic(http.ErrAbortHandler)
	}
	answer = f.apply(answer)
	header := w.Header()
	header.Set("Content-Type", answer.contentType)
	if answer.location != "" {
		header.Set("Location", answer.location)
	}
	if answer.cookie != nil {
		http.SetCookie(w, answer.cookie)
	}
	if f.Body == 0 && !f.Endless {
		header.Set("Content-Length", strconv.Itoa(len(answer.body)))
	}
	w.WriteHeader(answer.status)
	f.writeBody(w, r, answer.body)
}

func (f Fault) writeBody(w http.ResponseWriter, r *http.Request, body []byte) {
	if f.Body > 0 && len(body) > 0 {
		w.Write(body[:1])
		http.NewResponseController(w).Flush()
		if !sleep(r.Context(), f.Body) {
			return
		}
		body = body[1:]
	}
	_, err := w.Write(body)
	filler := []byte(strings.Repeat(" ", 16<<10))
	for f.Endless && err == nil && r.Context().Err() == nil {
		_, err = w.Write(filler)
	}
}

// sleep reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

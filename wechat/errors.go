package wechat

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
)

var (
	// ErrAPI matches every [*Error]: WeChat answered, with an errcode.
	ErrAPI = errors.New("refused by WeChat")
	// ErrUnavailable means that WeChat gave no answer that can be believed:
	// network failure, time-out, an HTTP status other than 200, a redirect, a
	// body that is too large, not JSON, malformed or contradictory. Whether a
	// code was spent is not known.
	ErrUnavailable = errors.New("no usable answer from WeChat")
	// ErrNotConfigured means that the client has no app id or no secret. An
	// empty secret is refused here, because elsewhere it has let anyone in.
	ErrNotConfigured = errors.New("app id or secret is empty")
)

// Error is an errcode of WeChat's. It matches [ErrAPI] and, if the errcode is
// a known one, its sentinel. WeChat's errmsg is left out of it: it is free
// text that may quote what we sent.
type Error struct {
	// Endpoint is the path that was called, such as /sns/oauth2/access_token.
	Endpoint string
	// Code is WeChat's errcode, never 0.
	Code int
	// RequestID is WeChat's rid (or the older req_id), which its support asks
	// for. It is empty if there was none, or a malformed one.
	RequestID string
}

// Error states endpoint, errcode, the errcode's meaning and the request id.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: errcode %d: %s", e.Endpoint, e.Code, e.Meaning())
	if e.RequestID != "" {
		text += " (rid " + e.RequestID + ")"
	}
	return text
}

// Is reports whether target is ErrAPI or the sentinel of e's errcode.
func (e *Error) Is(target error) bool {
	return target == ErrAPI || target == byCode[e.Code].err
}

// Meaning is what the errcode means, in a few English words of our own.
func (e *Error) Meaning() string {
	if known, ok := byCode[e.Code]; ok {
		return known.err.Error()
	}
	return "unknown errcode"
}

// Advice is what an operator does about the errcode, in one sentence. It is
// empty for an unknown errcode.
func (e *Error) Advice() string { return byCode[e.Code].advice }

// unavailable is an ErrUnavailable with a reason. Its cause is nil or one of
// context's two errors: an arbitrary one could be asked for its URL, and the
// URL holds the secret.
type unavailable struct {
	endpoint string
	reason   string
	cause    error
}

func (e *unavailable) Error() string {
	return e.endpoint + ": " + ErrUnavailable.Error() + ": " + e.reason
}

func (e *unavailable) Unwrap() []error {
	if e.cause == nil {
		return []error{ErrUnavailable}
	}
	return []error{ErrUnavailable, e.cause}
}

// malformed is an answer that cannot be believed. The reason must be a
// constant, or made of names of ours: never of what was received.
func malformed(endpoint, reason string) error {
	return &unavailable{endpoint: endpoint, reason: reason}
}

// Reason says why an HTTP request failed, in one short line that holds neither its URL nor a header.
func Reason(err error) string { return clean(reason(err)) }

// networkError says why a call failed, in words that cannot hold its URL.
func networkError(endpoint string, err error) error {
	failure := &unavailable{endpoint: endpoint, reason: Reason(err)}
	switch {
	case errors.Is(err, context.Canceled):
		failure.cause = context.Canceled
	case isTimeout(err):
		failure.cause = context.DeadlineExceeded
	}
	return failure
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// reason describes only the kinds of error known to be harmless. All others
// get a constant: *url.Error prints the URL, net/http quotes malformed
// answers, which may echo the request, and a bad proxy setting is printed
// with the proxy's password.
func reason(err error) string {
	var (
		op     *net.OpError
		dns    *net.DNSError
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
		errno  syscall.Errno
	)
	switch {
	case errors.Is(err, context.Canceled):
		return "the caller gave up"
	case errors.As(err, &dns):
		return dns.Error()
	case errors.As(err, &cert):
		return cert.Error()
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "the answer is not TLS"
	case errors.As(err, &op):
		return operation(op)
	case errors.As(err, &errno):
		return errno.Error()
	case isTimeout(err):
		return "timed out"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed early"
	}
	return "the request failed"
}

// operation prints a network operation's peer but not its inner error, which
// is anything at all when the operation is a proxy's.
func operation(op *net.OpError) string {
	text := op.Op
	if op.Addr != nil {
		text += " " + op.Addr.String()
	}
	var errno syscall.Errno
	switch {
	case op.Op == "remote error", op.Op == "local error": // a TLS alert
		return "TLS " + op.Error()
	case op.Timeout():
		return text + ": timed out"
	case errors.As(op.Err, &errno):
		return text + ": " + errno.Error()
	}
	return text + ": failed"
}

// clean keeps a reason to one short line: names in a certificate are
// whatever the other side wrote there.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 300)]
}

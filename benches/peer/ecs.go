package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	ecsVersion   = "2014-05-26"
	algorithm    = "ACS3-HMAC-SHA256"
	signed       = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
	longestReply = 64 << 10
)

var emptyBody = hex.EncodeToString(sha256.New().Sum(nil))

// ecsClient calls the ECS API, one signed attempt a call.
type ecsClient struct {
	endpoint   *url.URL
	id, secret string
	http       *http.Client
}

func newECSClient(endpoint, id, secret string, connections int) (*ecsClient, error) {
	base, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	if id == "" || secret == "" {
		return nil, errors.New("ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET must be set")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	// The default keeps two, and every other call would pay for a connection.
	transport.MaxIdleConnsPerHost = connections
	return &ecsClient{
		endpoint: base, id: id, secret: secret,
		http: &http.Client{Transport: transport, Timeout: 4 * time.Second},
	}, nil
}

// modify sets the VNC password of an instance and returns the RequestId.
func (c *ecsClient) modify(ctx context.Context, region, instance, password string) (string, error) {
	// Sorted by name, and nothing in the values needs another encoding than Go's.
	query := url.Values{"InstanceId": {instance}, "RegionId": {region}, "VncPassword": {password}}.Encode()
	target := *c.endpoint
	target.Path, target.RawQuery = "/", query
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), nil)
	if err != nil {
		return "", err
	}
	c.sign(request, "ModifyInstanceVncPasswd", query)
	response, err := c.http.Do(request)
	if err != nil {
		// The URL, and with it the password, stays out of the message.
		var broken *url.Error
		if errors.As(err, &broken) {
			err = broken.Err
		}
		return "", fmt.Errorf("ModifyInstanceVncPasswd: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, longestReply))
	if err != nil {
		return "", fmt.Errorf("ModifyInstanceVncPasswd: %w", err)
	}
	var reply struct {
		RequestID string `json:"RequestId"`
		Code      string `json:"Code"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return "", fmt.Errorf("ModifyInstanceVncPasswd: unreadable reply, status %d", response.StatusCode)
	}
	if reply.Code != "" || reply.RequestID == "" {
		return "", fmt.Errorf("ModifyInstanceVncPasswd: refused with %q", reply.Code)
	}
	return reply.RequestID, nil
}

func (c *ecsClient) sign(request *http.Request, action, query string) {
	nonce := make([]byte, 16)
	rand.Read(nonce)
	header := request.Header
	header.Set("Accept", "application/json")
	header.Set("x-acs-action", action)
	header.Set("x-acs-content-sha256", emptyBody)
	header.Set("x-acs-date", time.Now().UTC().Format("2006-01-02T15:04:05Z"))
	header.Set("x-acs-signature-nonce", hex.EncodeToString(nonce))
	header.Set("x-acs-version", ecsVersion)
	var canonical strings.Builder
	fmt.Fprintf(&canonical, "%s\n/\n%s\nhost:%s\n", request.Method, query, request.URL.Host)
	for _, name := range strings.Split(signed, ";")[1:] {
		fmt.Fprintf(&canonical, "%s:%s\n", name, header.Get(name))
	}
	fmt.Fprintf(&canonical, "\n%s\n%s", signed, emptyBody)
	digest := sha256.Sum256([]byte(canonical.String()))
	mac := hmac.New(sha256.New, []byte(c.secret))
	io.WriteString(mac, algorithm+"\n"+hex.EncodeToString(digest[:]))
	header.Set("Authorization", fmt.Sprintf("%s Credential=%s,SignedHeaders=%s,Signature=%s",
		algorithm, c.id, signed, hex.EncodeToString(mac.Sum(nil))))
}

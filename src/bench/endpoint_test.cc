#include "bench/endpoint.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

TEST(Endpoint, UrlsAreTakenApart) {
  const auto endpoint = parse_endpoint("http://127.0.0.1:8000/v1/");
  ASSERT_TRUE(endpoint.ok());
  EXPECT_EQ(endpoint->host, "127.0.0.1");
  EXPECT_EQ(endpoint->port, "8000");
  EXPECT_EQ(endpoint->path, "");
  EXPECT_EQ(parse_endpoint("http://h/proxy")->path, "/proxy");
  EXPECT_EQ(parse_endpoint("http://h")->port, "80");
  EXPECT_EQ(parse_endpoint("http://h")->tls, nullptr);
  const auto v6 = parse_endpoint("http://[::1]:8000/x");
  ASSERT_TRUE(v6.ok());
  EXPECT_EQ(v6->host, "::1");
  EXPECT_EQ(v6->port, "8000");
  EXPECT_EQ(v6->authority, "[::1]:8000");
  EXPECT_EQ(parse_endpoint("http://[::1]")->port, "80");
  for (const char* url : {"ftp://h", "h:80", "http://:80", "http://h:", "http://h:x", "http://[::1", "http://a@h"}) {
    EXPECT_FALSE(parse_endpoint(url).ok()) << url;
  }
  EXPECT_FALSE(parse_endpoint("http://").ok());
}

TEST(Endpoint, HttpsAsksForAnAuthorityThatCanBeRead) {
  const auto endpoint = parse_endpoint("https://h/v1");
  ASSERT_TRUE(endpoint.ok()) << endpoint.status().message();
  EXPECT_EQ(endpoint->port, "443");
  EXPECT_NE(endpoint->tls, nullptr);
  EXPECT_TRUE(parse_endpoint("https://h", {.insecure = true}).ok());
  EXPECT_EQ(parse_endpoint("https://h", {.ca_file = "/nowhere"}).status().message(),
            "--cacert names no file of certificates that can be read");
  EXPECT_EQ(parse_endpoint("http://h", {.insecure = true}).status().message(), "--insecure is for https:// URLs");
}

}  // namespace
}  // namespace hearth

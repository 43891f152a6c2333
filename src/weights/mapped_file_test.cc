#include "weights/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "weights/test_files.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;

std::string refusal(const fs::path& path) {
  const auto file = MappedFile::open(path);
  EXPECT_FALSE(file.ok()) << path;
  return file.ok() ? "" : file.status().message();
}

TEST(MappedFile, ReadsARegularFile) {
  TempFolder folder;
  const auto file = MappedFile::open(folder.write("a", "hello"));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->bytes(), "hello");
  const auto empty = MappedFile::open(folder.write("b", ""));
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(empty->size(), 0);
}

TEST(MappedFile, RefusesWhatIsNoRegularFile) {
  TempFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_NE(refusal(folder / "pipe").find("not a regular file"), std::string::npos);
  EXPECT_NE(refusal(folder.path()).find("not a regular file"), std::string::npos);
  EXPECT_NE(refusal("/dev/zero").find("not a regular file"), std::string::npos);
  EXPECT_NE(refusal(folder / "missing").find("missing: No such file"), std::string::npos);
}

TEST(MappedFile, FollowsLinks) {
  TempFolder folder;
  folder.write("elsewhere/blob", "blob");
  fs::create_directories(folder / "model");
  fs::create_symlink("../elsewhere/blob", folder / "model/config.json");
  const auto file = MappedFile::open(folder / "model/config.json");
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->bytes(), "blob");
}

TEST(MappedFile, ALinkThatLeadsNowhereIsRefusedNotPassedOver) {
  TempFolder folder;
  fs::create_symlink("loop", folder / "loop");
  fs::create_symlink("nothing", folder / "dangling");
  for (const char* name : {"loop", "dangling"}) {
    EXPECT_TRUE(is_there(folder / name));
    EXPECT_FALSE(refusal(folder / name).empty());
    EXPECT_FALSE(read_text_file_if_there(folder / name).ok());
  }
  EXPECT_FALSE(is_there(folder / "missing"));
  EXPECT_EQ(*read_text_file_if_there(folder / "missing"), std::nullopt);
  EXPECT_EQ(*read_text_file_if_there(folder.write("empty", "")), "");
}

TEST(MappedFileDeathTest, TruncatedWhileMappedEndsWithOneLine) {
  TempFolder folder;
  const fs::path path = folder.write("shrinking", std::string(3 * 4096, 'x'));
  EXPECT_EXIT(
      {
        const auto file = MappedFile::open(path);
        fs::resize_file(path, 10);
        volatile char last = file->bytes().back();
        (void)last;
      },
      testing::ExitedWithCode(1), "shrinking: truncated or unreadable while it was being read, expected 12288 bytes");
}

TEST(MappedFile, ATextFileHasALimit) {
  TempFolder folder;
  EXPECT_EQ(*read_text_file(folder.write("a", "12345"), 5), "12345");
  EXPECT_FALSE(read_text_file(folder / "a", 4).ok());
  EXPECT_EQ(printable("a\nb\x1b[0m\xff"), "a?b?[0m?");
}

}  // namespace
}  // namespace hearth

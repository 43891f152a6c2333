#include "weights/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "weights/test_files.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;

std::string refusal(const fs::path& path, const fs::path& confine = {}) {
  const auto file = MappedFile::open(path, confine);
  EXPECT_FALSE(file.ok()) << path;
  return file.ok() ? "" : file.status().message();
}

TEST(MappedFile, ReadsARegularFile) {
  TempFolder folder;
  const auto file = MappedFile::open(folder.write("a", "hello"), folder.path());
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

TEST(MappedFile, RefusesALinkOutOfTheModel) {
  TempFolder folder;
  folder.write("secret", "x");
  fs::create_directories(folder / "model");
  fs::create_symlink("../secret", folder / "model/config.json");
  EXPECT_NE(refusal(folder / "model/config.json", confinement_of(folder / "model")).find("link out of"),
            std::string::npos);
  fs::create_directory_symlink("..", folder / "model/up");
  EXPECT_NE(refusal(folder / "model/up/secret", confinement_of(folder / "model")).find("link out of"),
            std::string::npos);
  // "model-2" begins like "model" and is another folder.
  folder.write("model-2/a", "x");
  fs::create_symlink("../model-2/a", folder / "model/a");
  EXPECT_NE(refusal(folder / "model/a", confinement_of(folder / "model")).find("link out of"), std::string::npos);
  fs::create_symlink("b", folder / "model/b");
  EXPECT_FALSE(refusal(folder / "model/b").empty()) << "a link to itself";
}

TEST(MappedFile, FollowsTheLinksOfAHuggingFaceCache) {
  TempFolder folder;
  folder.write("models--org--name/blobs/123", "blob");
  const fs::path snapshot = folder / "models--org--name/snapshots/abc";
  fs::create_directories(snapshot);
  fs::create_symlink("../../blobs/123", snapshot / "config.json");
  folder.write("secret", "x");
  fs::create_symlink("../../../secret", snapshot / "secret");
  const auto file = MappedFile::open(snapshot / "config.json", confinement_of(snapshot));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->bytes(), "blob");
  EXPECT_NE(refusal(snapshot / "secret", confinement_of(snapshot)).find("link out of"), std::string::npos);
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
  EXPECT_EQ(*read_text_file(folder.write("a", "12345"), {}, 5), "12345");
  EXPECT_FALSE(read_text_file(folder / "a", {}, 4).ok());
  EXPECT_EQ(printable("a\nb\x1b[0m\xff"), "a?b?[0m?");
}

}  // namespace
}  // namespace hearth

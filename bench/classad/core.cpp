// The C++ core of ClassAd, driven without Python between: the shared library of the wheel has no
// headers beside it, so the few functions that are called are declared here.
//
// usage: core ADS JOBS LIMIT
// ADS and JOBS hold one ad a line. Says `ready N` for N ads. Then each line of standard input is the
// place of a job, answered by: that place, nanoseconds for the whole market, and the best matches as
// `Id Total` pairs.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <tuple>
#include <vector>

namespace classad {
class ClassAd {
public:
    bool EvaluateAttrInt(const std::string &name, long long &value) const;
};
class ClassAdParser {
public:
    ClassAdParser();
    ~ClassAdParser();
    ClassAd *ParseClassAd(const std::string &text, bool whole);
private:
    // More than it needs: its own size is not known here.
    alignas(16) char room_[1 << 14];
};
class MatchClassAd {
public:
    MatchClassAd();
    bool ReplaceLeftAd(ClassAd *ad);
    bool ReplaceRightAd(ClassAd *ad);
    ClassAd *RemoveLeftAd();
    ClassAd *RemoveRightAd();
    bool symmetricMatch();
    static bool OptimizeLeftAdForMatchmaking(ClassAd *ad, std::string *error, const std::string &, const std::string &);
    static bool OptimizeRightAdForMatchmaking(ClassAd *ad, std::string *error, const std::string &, const std::string &);
private:
    alignas(16) char room_[1 << 14];
};
}

using Clock = std::chrono::steady_clock;
using Ads = std::vector<classad::ClassAd *>;

static Ads read(const char *path) {
    // Never freed: the program ends soon.
    static classad::ClassAdParser *parser = new classad::ClassAdParser;
    std::ifstream file(path);
    std::string line;
    Ads ads;
    while (std::getline(file, line)) {
        classad::ClassAd *ad = parser->ParseClassAd(line, true);
        if (!ad) {
            std::cerr << "not an ad: " << line << "\n";
            std::exit(1);
        }
        ads.push_back(ad);
    }
    return ads;
}

int main(int count, char **words) {
    if (count != 4) {
        std::cerr << "usage: core ADS JOBS LIMIT\n";
        return 2;
    }
    Ads ads = read(words[1]), jobs = read(words[2]);
    const size_t limit = std::atoi(words[3]);
    auto *match = new classad::MatchClassAd;
    const std::string id = "Id", total = "Total", listed = "ListedAt";
    std::cout << "ready " << ads.size() << std::endl;
    size_t at;
    while (std::cin >> at && at < jobs.size()) {
        auto began = Clock::now();
        match->ReplaceLeftAd(jobs[at]);
        std::vector<std::tuple<long long, long long, long long>> found;
        for (classad::ClassAd *ad : ads) {
            match->ReplaceRightAd(ad);
            if (match->symmetricMatch()) {
                long long price = 0, since = 0, which = 0;
                if (!jobs[at]->EvaluateAttrInt(total, price) || !ad->EvaluateAttrInt(listed, since) ||
                    !ad->EvaluateAttrInt(id, which)) {
                    std::cerr << "a match without price, time or id\n";
                    return 1;
                }
                found.emplace_back(price, since, which);
            }
            match->RemoveRightAd();
        }
        // What is in the match when it is replaced would be deleted.
        match->RemoveLeftAd();
        size_t shown = std::min(limit, found.size());
        std::partial_sort(found.begin(), found.begin() + shown, found.end());
        auto took = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - began).count();
        std::cout << at << " " << took;
        for (size_t n = 0; n < shown; ++n)
            std::cout << " " << std::get<2>(found[n]) << " " << std::get<0>(found[n]);
        std::cout << std::endl;
    }
    std::_Exit(0);
}
